"""The configuration: frozen, typed, validated; every default lives here.

    config = Config(model=ModelConfig(width=64), train=TrainConfig(num_steps=10))
    Config.from_dict(config.to_dict()) == config

A config file is Python with a function `get_config() -> ConfigDict`, which is
`config.to_config_dict()`; flags override fields: `--config.train.num_steps=20`.
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
    """The backbone that both families share, and what only diffusion reads.

    Attributes:
      length: tokens per window, L.
      vocab_size: SentencePiece vocabulary, V, special ids included.
      width, num_layers, num_heads, ffn_width: D, N, H, F.
      tied_head: whether the head is the transposed embedding.
      head: where diffusion's head runs in training: "masked" (where a token is masked,
        which gives the same numbers for less work), "all", or "auto" ("masked" on one
        device, as what is masked is gathered from the whole batch).
      dropout: probability, while training only.
      dtype: of the activations, "float32" or "bfloat16"; parameters are float32.
      attention: "auto" (cudnn on a GPU in bfloat16, else xla), "xla" or "cudnn".
      bos_at_start: whether diffusion is told where the window begins, by adding BOS to
        the first position; AR always is. Else all positions of an all-MASK window look
        alike to it, as in the study.
      time_embedding: "none", "additive" or "adaln".
      time_scale: t is multiplied by this before the sinusoids; the study has 1.
      schedule: of masking; see mdlm_jax/schedule.py.
      times: of masking: "stratified" over the batch, or "independent", as in the study.
      objective: "nelbo", or "token_mean" (the study's; not a likelihood).
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
            f"{2 * self.num_heads}: rotary embeddings turn pairs of features",
        )
        require(
            0.0 <= self.dropout < 1.0,
            f"ModelConfig.dropout={self.dropout} must lie in [0, 1)",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Validated):
    """AdamW with linear warm-up, cosine decay and clipping by global norm.

    Attributes:
      learning_rate: at the peak; it ends at final_share of that.
      warmup_steps: steps from zero to the peak.
      weight_decay, b1, b2, clip_norm: AdamW's; decay acts on every parameter.
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
                f"OptimizerConfig.{name}={value} must lie in [0, 1), as it is the "
                "decay of a running mean",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Validated):
    """How long to train and how often to look. A budget of 0 is no budget.

    Attributes:
      num_steps: optimiser steps; the learning rate ends with them.
      max_tokens, max_flops: budgets that shorten num_steps before the run begins.
      max_seconds: stops early, after this much time spent in training steps.
      batch_size: windows per optimiser step, over all devices and microbatches.
      accumulation: microbatches per step.
      ema: decay of the averaged parameters that are evaluated; 0 is off.
      log_every, eval_every, save_every: in steps.
      eval_windows, eval_draws: windows and draws of the learning curve.
      keep: how many of the latest checkpoints stay, beside the best.
      fsdp_devices: devices that share one copy of parameters, moments and average.
      max_skipped: steps of the run that may be left out, as their loss or gradient is
        not finite; with 0 the first one ends the run.
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
    """How documents are written; docs/samplers.md says which sampler reads what.

    Attributes:
      num_samples: samples in all.
      batch_size: samples at a time; no sample depends on it.
      length: tokens of a sample; 0 is the window's.
      sampler: name of a sampler, as docs/samplers.md lists them; "" is the family's own
        default.
      num_steps: steps of a diffusion sampler; 0 is one step per token of the window.
      temperature: 1 is the model itself, 0 is greedy.
      annealing: share of itself to which the temperature of a diffusion sampler falls,
        linearly in t; 1 is constant.
      top_k: keep the k likeliest tokens; 0 keeps all.
      top_p: keep the likeliest tokens that hold this much probability; 1 keeps all.
      min_p: keep tokens at least this share as likely as the likeliest; 0 keeps all.
      repetition_penalty: penalty on tokens that the text holds already; 1 is none.
      block_size: tokens in each block of "blocks".
      block_sampler: fills a block: any sampler of diffusion but "blocks",
        "vicentino2026" and "remdm_loop".
      threshold: "threshold" opens every position that is surer than this.
      eta: strength of remasking, the eta of ReMDM; 0 never remasks.
      t_on, t_off, alpha_on: "remdm_loop" remasks while t_on >= t > t_off, with the
        share alpha_on of the text written.
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
            "remasking needs both text and masks",
        )
        require(
            0.0 < self.t_off < self.t_on < 1.0,
            f"SampleConfig.t_off={self.t_off} and t_on={self.t_on} must satisfy "
            "0 < t_off < t_on < 1: time runs from 1 to 0",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Validated):
    """Everything that decides a run.

    Attributes:
      seed: of the run; what it draws is a function of this.
      num_seeds: runs of each family in a comparison, with seed, seed + 1, ...
      unequal: what the model of one family alone is given, as the study did:
        "mdlm.model.tied_head=False", more behind commas. Empty, all is held equal.
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
        """What the family of this name is trained with: `unequal` is applied."""
        values: dict[str, Any] = {**self.to_dict(), "unequal": ""}
        for family, field, value in self._assignments():
            if family == name:
                values["model"][field] = value
        return Config.from_dict(values)

    def unequal_families(self) -> set[str]:
        """The names of the families that `unequal` gives something of their own."""
        return {family for family, _, _ in self._assignments()}

    def _assignments(self) -> list[tuple[str, str, Any]]:
        """Family, field of its model, and value.

        Raises:
          ValueError: `unequal` is written in another way.
        """
        found = []
        for part in filter(None, map(str.strip, self.unequal.split(","))):
            match = re.fullmatch(r"(\w+)\.model\.(\w+)=(.+)", part)
            require(
                match is not None,
                f"Config.unequal={self.unequal!r} gives {part!r}: write "
                "family.model.field=value, as in mdlm.model.tied_head=False",
            )
            family, field, text = match.groups()  # pyright: ignore
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):  # a word
                value = text
            found.append((family, field, value))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, ready for JSON."""
        return dataclasses.asdict(self)

    def to_config_dict(self) -> ConfigDict:
        """What a config file returns: typed, and open to flags."""
        return ConfigDict(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The inverse of to_dict and to_config_dict.

        Raises:
          ValueError: names the unknown or ill-typed field.
        """
        return _from_dict(cls, values, "")


def _from_dict(cls: type, values: Mapping[str, Any], path: str) -> Any:
    require(
        isinstance(values, Mapping | ConfigDict),
        f"config.{path.rstrip('.')}={values!r} is no section: it has the fields of "
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
