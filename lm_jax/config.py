"""The configuration: frozen, typed, validated dataclasses with all defaults.

    config = Config(model=ModelConfig(width=64), train=TrainConfig(num_steps=10))
    Config.from_dict(config.to_dict()) == config

A config file is Python with a function `get_config() -> ConfigDict`, which returns
`config.to_config_dict()`; flags override fields: `--config.train.num_steps=20`. "The
paper" is arXiv:2603.22075.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from flax.core import FrozenDict
from ml_collections import ConfigDict

from lm_jax.validation import Validated, as_tuple, require, require_seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Validated):
    """The corpus, its train/validation split, its tokenizer and its windows.

    Attributes:
      corpus: "storyworld" (embedded), "tinystories" or "text" (your own files); see
        lm_jax/data/corpora.py.
      train_files: training files, separated by commas (a comma in a path is written
        \\,); "tinystories" without them downloads the official files.
      valid_files: validation files, as train_files; "text" without them holds out
        valid_share.
      edition: edition of TinyStories to download: "first" (by GPT-3.5 and GPT-4, as in
        arXiv:2603.22075) or "second" (by GPT-4 alone).
      num_stories: training stories that storyworld generates.
      num_valid_stories: validation stories that storyworld generates.
      valid_share: share of the documents held out where there are no valid_files.
      max_documents: number of documents to train on, from the first; 0 is all. The
        tokenizer is trained on all of them, so that small and large corpora share it.
      windows: "document" (every window begins with a document) or "stream" (one
        unbroken text).
      split: "document", or "chunk": a random valid_share of the windows of the training
        stream validates, as in arXiv:2603.22075. Documents then straddle the split: it
        LEAKS.
      tokenizer: "sentencepiece", or "gpt2" (byte pairs, read from files).
      tokenizer_files: file of a trained SentencePiece model; "" trains one of
        model.vocab_size. For "gpt2" two files, "vocab.json,merges.txt".
      seed: seed of storyworld's stories and of the held-out documents.
      cache_dir: directory of prepared corpora and windows, named by content hash.
    """

    corpus: str = "storyworld"
    train_files: tuple[str, ...] = ()
    valid_files: tuple[str, ...] = ()
    edition: str = "second"
    num_stories: int = 20_000
    num_valid_stories: int = 1_000
    valid_share: float = 0.05
    max_documents: int = 0
    windows: str = "document"
    split: str = "document"
    tokenizer: str = "sentencepiece"
    tokenizer_files: tuple[str, ...] = ()
    seed: int = 0
    cache_dir: str = "~/.cache/lm_jax"

    def validate(self) -> None:
        self.one_of("windows", "document", "stream")
        self.one_of("split", "document", "chunk")
        self.one_of("tokenizer", "sentencepiece", "gpt2")
        self.one_of("edition", "first", "second")
        require_seed(self.seed, "DataConfig.seed")
        self.at_least(0, "max_documents")
        self.at_least(1, "num_stories", "num_valid_stories")
        require(
            0.0 < self.valid_share < 1.0,
            f"DataConfig.valid_share={self.valid_share} must lie between 0 and 1",
        )
        require(
            self.corpus != "text" or bool(self.train_files),
            "corpus='text' needs files: pass --config.data.train_files=a.txt,b.txt",
        )
        require(
            self.split == "document" or self.windows == "stream",
            f"DataConfig.split='chunk' needs windows='stream', not {self.windows!r}: "
            "pass --config.data.windows=stream or --config.data.split=document",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Validated):
    """The transformer of both families, and options of the diffusion model alone.

    Attributes:
      architecture: "llama", this library's; or a published one, which is read and not
        trained: "dit" (MDLM, SEDD), "gpt2" or "gpt_neo".
      length: tokens per window, L.
      vocab_size: number of token ids, V, special ids included; 6 to 65536.
      width: width of the hidden states, D.
      num_layers: number of transformer blocks, N.
      num_heads: attention heads per block, H.
      ffn_width: hidden units of the feed-forward layer, F.
      tied_head: whether the output head is the transposed embedding.
      norm_epsilon: epsilon of RMSNorm, or of the LayerNorm of a published model.
      rope_base: base of the rotary embeddings' frequencies.
      dropout: dropout probability in training.
      dtype: type of the activations, "float32" or "bfloat16"; parameters are float32.
      attention: attention kernel: "xla", "cudnn", or "auto" (cudnn on a GPU in
        bfloat16, else xla).
    """

    architecture: str = "llama"
    length: int = 256
    vocab_size: int = 1024
    width: int = 128
    num_layers: int = 4
    num_heads: int = 4
    ffn_width: int = 352
    tied_head: bool = True
    norm_epsilon: float = 1e-6
    rope_base: float = 10_000.0
    dropout: float = 0.0
    dtype: str = "float32"
    attention: str = "auto"

    def validate(self) -> None:
        self.one_of("architecture", "llama", "dit", "gpt2", "gpt_neo")
        self.at_least(2, "length")
        self.at_least(1, "width", "num_layers", "num_heads", "ffn_width")
        self.one_of("dtype", "float32", "bfloat16")
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
            self.norm_epsilon > 0.0,
            f"ModelConfig.norm_epsilon={self.norm_epsilon} must be positive",
        )
        require(
            self.rope_base > 1.0,
            f"ModelConfig.rope_base={self.rope_base} must be greater than 1: the "
            "frequencies of rotary embeddings are its negative powers",
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
      init_from: directory of a run, of any family, whose latest backbone is the first
        one of this run; "" draws it. A time embedding starts at zero in either case.
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
    init_from: str = ""
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
      grid: masking schedule in whose time the steps of a diffusion sampler are equally
        long; "" is the schedule of training, and "2,5,9" unmasks so many tokens in each
        of three steps. With num_steps=0 it has no effect.
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
      entropy_bound: budget of the sampler "eb" in nats: largest sum of the entropies of
        the tokens of a step, without that of the last.
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
    grid: str = "cosine"
    temperature: float = 1.0
    annealing: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    block_size: int = 16
    block_sampler: str = "confidence"
    threshold: float = 0.9
    entropy_bound: float = 1.0
    eta: float = 0.02
    t_on: float = 0.55
    t_off: float = 0.05
    alpha_on: float = 0.9

    def validate(self) -> None:
        self.at_least(1, "num_samples", "batch_size", "block_size")
        self.at_least(1, "repetition_penalty")
        self.at_least(0, "temperature", "top_k", "num_steps", "length")
        self.at_least(0, "entropy_bound")
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
class EvaluateConfig(Validated):
    """Evaluation after training.

    Attributes:
      max_windows: validation windows to score; 0 scores all.
      num_draws: masks drawn per window for a bound; even, as two share a stratum.
      batch_size: windows scored at a time.
      num_resamples: bootstrap resamples per interval.
      detail_windows: windows for calibration, loss by position and by hidden share, and
        convergence of a bound; 0 leaves these out.
      num_orders: orders drawn per window for the likelihood of a sampler that writes in
        random order; even.
      samplers: samplers whose own likelihood a comparison measures too, each for the
        families that have it; "spread@28" is the sampler "spread" with num_steps=28,
        and "margin@0" writes one token per step.
      sampler_windows: full windows on which it is measured.
      checkpoint: checkpoint of each run that a comparison samples and scores: latest,
        best (lowest validation loss) or a step.
      judge: directory of a run whose likelihood is exact, of a published model for
        example, which scores the samples; "" is none, or the one of judge_steps.
      judge_steps: training steps of a judge of the comparison's own, an AR model; 0 is
        none.
      judge_files: training files of the judge, which no family may have trained on;
        storyworld needs none.
    """

    max_windows: int = 0
    num_draws: int = 16
    batch_size: int = 32
    num_resamples: int = 1_000
    detail_windows: int = 64
    num_orders: int = 16
    samplers: tuple[str, ...] = ()
    sampler_windows: int = 32
    checkpoint: str = "latest"
    judge: str = ""
    judge_steps: int = 0
    judge_files: tuple[str, ...] = ()

    def validate(self) -> None:
        self.at_least(0, "max_windows", "detail_windows", "judge_steps")
        self.at_least(2, "num_draws", "num_resamples", "num_orders")
        self.at_least(1, "batch_size", "sampler_windows")
        require(
            self.num_orders % 2 == 0,
            f"EvaluateConfig.num_orders={self.num_orders} must be even: one bound "
            "compares two halves",
        )
        require(
            self.checkpoint in ("latest", "best") or self.checkpoint.isdecimal(),
            f"EvaluateConfig.checkpoint={self.checkpoint!r} is no checkpoint: choose "
            "latest, best or a step",
        )
        require(
            self.num_draws % 2 == 0,
            f"EvaluateConfig.num_draws={self.num_draws} must be even: "
            "the standard error compares two draws of a stratum",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontierConfig(Validated):
    """Sampler settings of the frontier: quality against variety against seconds.

    Each tuple varies one setting of the run's sampler and keeps the others; an empty
    one varies nothing.

    Attributes:
      num_samples: samples at each setting; 0 is no frontier.
      num_windows: full held-out windows on which the likelihood of each setting is
        measured; 0 measures none.
      temperatures: temperatures, for every family.
      top_ps: values of top_p, for every family.
      num_steps: numbers of steps, for the families that sample in steps.
      samplers: names of samplers, each for the families that have it; "spread@28" is
        the sampler "spread" with num_steps=28.
    """

    num_samples: int = 0
    num_windows: int = 0
    temperatures: tuple[float, ...] = (0.5, 0.7, 0.85, 1.0, 1.2)
    top_ps: tuple[float, ...] = (0.8, 0.95)
    num_steps: tuple[int, ...] = (8, 32, 128)
    samplers: tuple[str, ...] = ("low_temperature",)

    def validate(self) -> None:
        self.at_least(0, "num_windows")
        require(
            self.num_samples == 0 or self.num_samples >= 2,
            f"FrontierConfig.num_samples={self.num_samples} must be 0 or at least 2: "
            "variety needs several samples",
        )
        for name, least in (("temperatures", 0.0), ("top_ps", 1e-9), ("num_steps", 0)):
            for value in getattr(self, name):
                require(
                    value >= least,
                    f"FrontierConfig.{name} contains {value:g}: give numbers of at "
                    f"least {least:g}",
                )
        for value in self.top_ps:
            require(value <= 1.0, f"FrontierConfig.top_ps has {value:g}, above 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig(Validated):
    """Samples whose generation the report shows step by step.

    Attributes:
      num_played: samples of each family to show.
      infill: text with gaps to fill, "Once [12] and then [20]. The end.", for families
        that can infill; "" is none, "auto" is a held-out document without its middle.
    """

    num_played: int = 3
    infill: str = ""

    def validate(self) -> None:
        self.at_least(0, "num_played")


# Sections of single families by name; a family's package adds its own when it is
# imported, as mdlm_jax.config does.
SECTIONS: dict[str, type[Validated]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Validated):
    """All settings of a run.

    Attributes:
      seed: seed of the run; all its random numbers follow from it.
      num_seeds: runs per family in a comparison, with seeds seed, seed + 1, ...
      families: hyperparameters of single families by name, as in
        {"mdlm": MDLMConfig(schedule="cosine")}, or --config.mdlm.schedule=cosine. A
        family that is not named has its defaults.
      family_overrides: fields of `model` for single families, as in
        {"mdlm": {"tied_head": False}}, which the paper has; {} holds all equal.
    """

    seed: int = 0
    num_seeds: int = 1
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    frontier: FrontierConfig = FrontierConfig()
    report: ReportConfig = ReportConfig()
    families: Mapping[str, Any] = FrozenDict()
    family_overrides: Mapping[str, Any] = FrozenDict()

    def validate(self) -> None:
        self.at_least(1, "num_seeds")
        require_seed(self.seed, "Config.seed")
        require_seed(self.seed + self.num_seeds - 1, "Config.seed + num_seeds - 1")
        for name in self.family_overrides:
            self._model_of(name)

    def section(self, name: str) -> Any:
        """Hyperparameters of one family."""
        return self.families.get(name) or SECTIONS[name]()

    def of_family(self, name: str) -> "Config":
        """The config of one family: its own section, and its overrides applied."""
        own = {name: self.section(name)} if name in SECTIONS else {}
        return dataclasses.replace(
            self,
            model=self._model_of(name),
            families=own,
            family_overrides={},
        )

    def _model_of(self, name: str) -> ModelConfig:
        fields: Any = self.family_overrides.get(name, {})
        require(
            isinstance(fields, Mapping),
            f"Config.family_overrides gives {name!r} {fields!r}: give fields of "
            "`model`, as in {'mdlm': {'tied_head': False}}",
        )
        known = [field.name for field in dataclasses.fields(ModelConfig)]
        for field in fields:
            require(
                field in known,
                f"Config.family_overrides gives {name!r} the field {field!r}: choose "
                f"one of {', '.join(known)}",
            )
        return _from_dict(ModelConfig, {**vars(self.model), **fields}, "model.")

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, ready for JSON."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "families"
        }
        return {name: _plain(x) for name, x in {**values, **self.families}.items()}

    def complete(self) -> "Config":
        """The config with the section of every family whose package is imported."""
        every = {name: self.section(name) for name in SECTIONS}
        return dataclasses.replace(self, families=every)

    def to_config_dict(self) -> ConfigDict:
        """The ConfigDict that a config file returns; flags can override its fields."""
        return ConfigDict(_with_tuples(self.complete().to_dict()))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The inverse of to_dict and to_config_dict.

        Raises:
          ValueError: a field is unknown or has the wrong type; the message names it.
        """
        require(
            isinstance(values, Mapping | ConfigDict),
            f"config={values!r} is no section: give a mapping of fields",
        )
        families = {
            name: _from_dict(SECTIONS[name], values[name], f"{name}.")
            for name in values
            if name in SECTIONS
        }
        shared = {name: values[name] for name in values if name not in families}
        return _from_dict(cls, {**shared, "families": families}, "")


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
            f"config has no field {path}{name}: choose one of "
            f"{', '.join(_names(cls, types))}",
        )
        if dataclasses.is_dataclass(types[name]):
            value = _from_dict(types[name], value, f"{path}{name}.")  # pyright: ignore
        elif typing.get_origin(types[name]) is tuple:
            value = as_tuple(value, types[name], f"config.{path}{name}")
        arguments[name] = value
    return cls(**arguments)


def _names(cls: type, types: Mapping[str, Any]) -> list[str]:
    """Names of the fields of a section, as a flag has them."""
    names = [name for name in types if name != "families"]
    return [*names, *SECTIONS] if cls is Config else names


def _with_tuples(value: Any) -> Any:
    """Lists as tuples, which flags can override."""
    if isinstance(value, dict):
        return {name: _with_tuples(x) for name, x in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """The value as JSON has it."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)  # pyright: ignore[reportArgumentType]
    if isinstance(value, Mapping):
        return {name: _plain(x) for name, x in value.items()}
    return list(value) if isinstance(value, tuple) else value
