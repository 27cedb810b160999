"""The configuration: frozen, typed, validated dataclasses with all defaults.

    config = Config(model=ModelConfig(width=64), train=TrainConfig(num_steps=10))
    Config.from_dict(config.to_dict()) == config

A config file is Python with a function `get_config() -> ConfigDict`, which returns
`config.to_config_dict()`; flags override fields: `--config.train.num_steps=20`. "The
paper" is arXiv:2603.22075.
"""

import ast
import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from lm_jax.data_config import DataConfig
from lm_jax.evaluate_config import EvaluateConfig, FrontierConfig, ReportConfig
from lm_jax.validation import Validated, require, require_seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Validated):
    """The transformer of both families, and options of the diffusion model alone.

    Attributes:
      length: tokens per window, L.
      vocab_size: number of token ids, V, special ids included; 6 to 65536.
      width: width of the hidden states, D.
      num_layers: number of transformer blocks, N.
      num_heads: attention heads per block, H.
      ffn_width: hidden units of the feed-forward layer, F.
      tied_head: whether the output head is the transposed embedding.
      head: positions at which the diffusion head runs in training: "masked" (the same
        loss for less work), "all", or "auto" ("masked" on one device, else "all", as
        the masked positions are gathered from the whole batch).
      dropout: dropout probability in training.
      dtype: type of the activations, "float32" or "bfloat16"; parameters are float32.
      attention: attention kernel: "xla", "cudnn", or "auto" (cudnn on a GPU in
        bfloat16, else xla).
      bos_at_start: whether the diffusion model adds the BOS embedding at the first
        position; AR always begins with BOS. Without it all positions of an all-MASK
        window look alike, as in the paper.
      time_embedding: how the diffusion model reads t: "none", "additive" or "adaln".
      time_scale: factor on t before the sinusoids; the paper has 1.
      schedule: masking schedule: "linear", "cosine", "polynomial", "log_linear" or
        "cos_squared"; see mdlm_jax/schedule.py.
      times: diffusion times in training: "stratified" over the batch, or
        "independent", as in the paper.
      objective: diffusion loss: "nelbo", or "token_mean" (the paper's loss, which is
        not a likelihood).
    """

    length: int = 256
    vocab_size: int = 1024
    width: int = 128
    num_layers: int = 4
    num_heads: int = 4
    ffn_width: int = 352
    tied_head: bool = True
    head: str = "auto"
    dropout: float = 0.0
    dtype: str = "float32"
    attention: str = "auto"
    bos_at_start: bool = True
    time_embedding: str = "additive"
    time_scale: float = 1000.0
    schedule: str = "linear"
    times: str = "stratified"
    objective: str = "nelbo"

    def validate(self) -> None:
        self.at_least(2, "length")
        self.at_least(1, "width", "num_layers", "num_heads", "ffn_width")
        self.one_of("dtype", "float32", "bfloat16")
        self.one_of("head", "auto", "masked", "all")
        self.one_of("attention", "auto", "xla", "cudnn")
        require(
            6 <= self.vocab_size <= 65_536,
            f"ModelConfig.vocab_size={self.vocab_size} must lie between 6 and 65536: "
            "windows are stored as 16-bit integers",
        )
        require(
            self.width % (2 * self.num_heads) == 0,
            f"ModelConfig.width={self.width} must be a multiple of 2 * num_heads="
            f"{2 * self.num_heads}: rotary embeddings rotate pairs of features",
        )
        require(
            0.0 <= self.dropout < 1.0,
            f"ModelConfig.dropout={self.dropout} must lie in [0, 1)",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Validated):
    """AdamW with linear warm-up, cosine decay and clipping by global norm.

    Attributes:
      learning_rate: peak learning rate.
      warmup_steps: steps of linear warm-up from zero to the peak.
      final_share: final learning rate / learning_rate.
      weight_decay: weight decay of AdamW; it acts on every parameter.
      b1: decay of AdamW's first moment.
      b2: decay of AdamW's second moment.
      clip_norm: largest global norm of the gradient; a larger one is scaled down.
    """

    learning_rate: float = 3e-4
    warmup_steps: int = 500
    final_share: float = 0.05
    weight_decay: float = 0.01
    b1: float = 0.9
    b2: float = 0.999
    clip_norm: float = 1.0

    def validate(self) -> None:
        self.at_least(0, "warmup_steps", "weight_decay", "final_share")
        self.share("final_share")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            require(value > 0, f"OptimizerConfig.{name}={value} must be positive")
        for name in ("b1", "b2"):
            value = getattr(self, name)
            require(
                0.0 <= value < 1.0,
                f"OptimizerConfig.{name}={value} must lie in [0, 1): it is the "
                "decay of a running mean",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Validated):
    """Length of training, and the intervals of logging, evaluation and saving.

    Attributes:
      num_steps: optimizer steps; the learning-rate schedule ends with them.
      max_tokens: limit on training tokens; it shortens num_steps before the run
        begins. 0 is no limit.
      max_flops: limit on training FLOPs; it shortens num_steps before the run begins.
        0 is no limit.
      max_seconds: limit on the seconds spent in training steps; the run then stops
        early. 0 is no limit.
      batch_size: windows per optimizer step, over all devices and microbatches.
      accumulation: microbatches per optimizer step.
      ema: decay of the moving average of the parameters, with which the model is
        evaluated; 0 is off.
      log_every: steps between two lines of the training log.
      eval_every: steps between two evaluations.
      sample_every: steps between two times that a few samples are logged; 0 is never.
      eval_windows: validation windows per evaluation during training.
      eval_draws: masks drawn per window for a bound; even.
      save_every: steps between two checkpoints.
      keep: number of latest checkpoints to keep, beside the best one.
      fsdp_devices: devices that share one copy of parameters, optimizer moments and
        moving average.
      max_skipped: steps with a non-finite loss or gradient that the run may skip; with
        0 the first one ends the run.
    """

    num_steps: int = 20_000
    max_tokens: int = 0
    max_flops: float = 0.0
    max_seconds: float = 0.0
    batch_size: int = 32
    accumulation: int = 1
    ema: float = 0.0
    log_every: int = 50
    eval_every: int = 500
    sample_every: int = 0
    eval_windows: int = 64
    eval_draws: int = 8
    save_every: int = 500
    keep: int = 2
    fsdp_devices: int = 1
    max_skipped: int = 0

    def validate(self) -> None:
        self.at_least(1, "num_steps", "batch_size", "accumulation", "log_every")
        self.at_least(1, "eval_every", "eval_windows", "save_every", "keep")
        self.at_least(1, "fsdp_devices")
        self.at_least(0, "max_tokens", "max_flops", "max_seconds", "max_skipped")
        self.at_least(0, "sample_every")
        self.at_least(2, "eval_draws")
        require(
            self.eval_draws % 2 == 0,
            f"TrainConfig.eval_draws={self.eval_draws} must be even: "
            "the standard error compares two draws of a stratum",
        )
        require(
            self.batch_size % self.accumulation == 0,
            f"TrainConfig.batch_size={self.batch_size} must be a multiple of "
            f"accumulation={self.accumulation}",
        )
        require(0.0 <= self.ema < 1.0, f"TrainConfig.ema={self.ema} must lie in [0, 1)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleConfig(Validated):
    """How samples are generated; docs/samplers.md says which sampler reads what.

    Attributes:
      num_samples: number of samples.
      batch_size: samples generated at a time; no sample depends on it.
      length: tokens per sample; 0 is the length of a window.
      sampler: name of a sampler, as docs/samplers.md lists them; "" is the default of
        the family.
      num_steps: steps of a diffusion sampler; 0 is one step per token of the window.
      temperature: softmax temperature; 1 is the model itself, 0 is greedy.
      annealing: factor on the temperature of a diffusion sampler at t = 0, from 1 at
        t = 1, linearly in t; 1 is constant.
      top_k: keep the k likeliest tokens; 0 keeps all.
      top_p: keep the fewest likeliest tokens with at least this total probability; 1
        keeps all.
      min_p: keep the tokens with at least min_p times the probability of the
        likeliest; 0 keeps all.
      repetition_penalty: divisor of positive logits, and factor on negative ones, of
        tokens that the text already contains; 1 is none.
      block_size: tokens per block of the sampler "blocks".
      block_sampler: sampler within a block of "blocks": any diffusion sampler but
        "blocks", "vicentino2026" and "remdm_loop".
      threshold: the sampler "threshold" unmasks every position whose largest
        probability exceeds this.
      eta: strength of remasking, eta of ReMDM; 0 never remasks.
      t_on: time t at which remasking of "remdm_loop" begins; t runs from 1 to 0.
      t_off: time t at which remasking of "remdm_loop" ends.
      alpha_on: share of unmasked tokens while "remdm_loop" remasks.
    """

    num_samples: int = 256
    batch_size: int = 64
    length: int = 0
    sampler: str = ""
    num_steps: int = 0
    temperature: float = 1.0
    annealing: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    block_size: int = 16
    block_sampler: str = "confidence"
    threshold: float = 0.9
    eta: float = 0.02
    t_on: float = 0.55
    t_off: float = 0.05
    alpha_on: float = 0.9

    def validate(self) -> None:
        self.at_least(1, "num_samples", "batch_size", "block_size")
        self.at_least(1, "repetition_penalty")
        self.at_least(0, "temperature", "top_k", "num_steps", "length")
        self.share("annealing", "min_p", "threshold", "eta", "t_on", "t_off")
        require(
            0.0 < self.top_p <= 1.0,
            f"SampleConfig.top_p={self.top_p} must lie in (0, 1]; 1 keeps every token",
        )
        require(
            0.0 < self.alpha_on < 1.0,
            f"SampleConfig.alpha_on={self.alpha_on} must lie between 0 and 1: "
            "remasking needs both unmasked and masked tokens",
        )
        require(
            0.0 < self.t_off < self.t_on < 1.0,
            f"SampleConfig.t_off={self.t_off} and t_on={self.t_on} must satisfy "
            "0 < t_off < t_on < 1: time runs from 1 to 0",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Validated):
    """All settings of a run.

    Attributes:
      seed: seed of the run; all its random numbers follow from it.
      num_seeds: runs per family in a comparison, with seeds seed, seed + 1, ...
      unequal: settings for the model of one family alone, separated by commas, as in
        "mdlm.model.tied_head=False", which the paper has; "" holds all equal.
    """

    seed: int = 0
    num_seeds: int = 1
    unequal: str = ""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    frontier: FrontierConfig = FrontierConfig()
    report: ReportConfig = ReportConfig()

    def validate(self) -> None:
        self.at_least(1, "num_seeds")
        require_seed(self.seed, "Config.seed")
        require_seed(self.seed + self.num_seeds - 1, "Config.seed + num_seeds - 1")
        self._assignments()

    def of_family(self, name: str) -> "Config":
        """The config of the family of this name, with `unequal` applied."""
        values: dict[str, Any] = {**self.to_dict(), "unequal": ""}
        for family, field, value in self._assignments():
            if family == name:
                values["model"][field] = value
        return Config.from_dict(values)

    def unequal_families(self) -> set[str]:
        """The names of the families in `unequal`."""
        return {family for family, _, _ in self._assignments()}

    def _assignments(self) -> list[tuple[str, str, Any]]:
        """(family, field of its model, value) for each entry of `unequal`.

        Raises:
          ValueError: an entry of `unequal` has another form.
        """
        found = []
        for part in filter(None, map(str.strip, self.unequal.split(","))):
            match = re.fullmatch(r"(\w+)\.model\.(\w+)=(.+)", part)
            require(
                match is not None,
                f"Config.unequal={self.unequal!r} contains {part!r}: write "
                "family.model.field=value, as in mdlm.model.tied_head=False",
            )
            family, field, text = match.groups()  # pyright: ignore
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):  # a string without quotes
                value = text
            found.append((family, field, value))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, ready for JSON."""
        return dataclasses.asdict(self)

    def to_config_dict(self) -> ConfigDict:
        """The ConfigDict that a config file returns; flags can override its fields."""
        return ConfigDict(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The inverse of to_dict and to_config_dict.

        Raises:
          ValueError: a field is unknown or has the wrong type; the message names it.
        """
        return _from_dict(cls, values, "")


def _from_dict(cls: type, values: Mapping[str, Any], path: str) -> Any:
    require(
        isinstance(values, Mapping | ConfigDict),
        f"config.{path.rstrip('.')}={values!r} is no section: give the fields of "
        f"{cls.__name__}",
    )
    types = typing.get_type_hints(cls)
    arguments = {}
    for name, value in values.items():
        require(
            name in types,
            f"config has no field {path}{name}: choose one of {', '.join(types)}",
        )
        if dataclasses.is_dataclass(types[name]):
            value = _from_dict(types[name], value, f"{path}{name}.")  # pyright: ignore
        arguments[name] = value
    return cls(**arguments)
