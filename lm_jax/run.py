"""A run: a family trained in a directory, opened again, sampled from and evaluated.

    run.train(mdlm_jax.FAMILY, cfg, "runs/mdlm")
    model = run.load("runs/mdlm")
    scores = run.evaluate(model)
    samples, stats = run.sample(model, seed=1)

The directory holds all that sampling and evaluation need:

    config.json         configuration
    run.json            family, corpus, its fingerprint, package versions, checksums
    tokenizer.model     SentencePiece, or both files of GPT-2
    valid_windows.npy   held-out windows (N, L), uint16
    checkpoints/  metrics.jsonl  training.json  events.*      from training
"""

import contextlib
import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lm_jax import (
    checkpoint,
    checkpoint_metadata,
    devices,
    distributed,
    files,
    progress,
    sharding,
)
from lm_jax.checkpoint import restore_params
from lm_jax.config import (
    Config,
    EvaluateConfig,
    SampleConfig,
    require,
    require_seed,
)
from lm_jax.data import cache, dataset, text_files
from lm_jax.data import windows as packing
from lm_jax.data.batches import batch_indices, train_batches
from lm_jax.data.dataset import Dataset
from lm_jax.data.tokenizers import Tokenizer, load_tokenizer
from lm_jax.data.windows import TextWindows
from lm_jax.evaluation import infills, sampler_likelihood
from lm_jax.evaluation.likelihood import row_log_likelihood, score, window_nats
from lm_jax.evaluation.ngrams import words
from lm_jax.evaluation.scores import scores
from lm_jax.keys import Stream, stream
from lm_jax.language_model import Family, LanguageModel, load_family
from lm_jax.sampling.generate import (
    KEYS_PER_LINE,
    MAX_LINES,
    SamplingStats,
    compile_sampler,
    generate,
)
from lm_jax.sampling.samples_file import Sample
from lm_jax.sampling.templates import make_template
from lm_jax.training import budget, hooks, loop, malloc, nonfinite
from lm_jax.training.hooks import Hook
from lm_jax.training.optimizer import make_optimizer
from lm_jax.types import EOS, PAD, Params, Windows

TRAINING_SECTIONS = ("seed", "data", "model", "optimizer", "train")
# These fields may differ when a run is resumed, as they do not change the trained
# model. The text is compared by its fingerprint.
MAY_DIFFER = (
    "data.cache_dir",
    "data.train_files",
    "data.valid_files",
    "train.accumulation",
    "train.fsdp_devices",
    "train.sample_every",
)
NOT_OF_BACKBONE = {"length", "dropout", "dtype", "attention"}
NOT_IN_SAMPLES = ("num_samples", "batch_size")  # do not affect the content of a sample
NUM_CHARACTERS = 40  # of a document, in its score
NUM_PREVIEWS = 4  # samples that training shows at a time
RECORD = "run.json"
SEALED = ("config.json", "tokenizer.model", "valid_windows.npy")
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "sentencepiece",
    "numpy",
)


class Run(NamedTuple):
    """Content of a run directory without its checkpoints.

    Attributes:
      path: path of the directory.
      family: name of the family.
      cfg: configuration that it was trained with.
      tokenizer: tokenizer of its corpus.
      valid: held-out windows.
      fingerprint: fingerprint of the corpus.
      num_threads: CPU threads that it was trained with; 0 on another device.
    """

    path: Path
    family: str
    cfg: Config
    tokenizer: Tokenizer
    valid: Windows
    fingerprint: str
    num_threads: int = 0

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / checkpoint.DIRECTORY


class Trained(NamedTuple):
    """A trained model.

    Attributes:
      family, lm: family and its functions.
      run: content of the run directory.
      params: parameters of a checkpoint.
      step: step of that checkpoint.
    """

    family: Family
    lm: LanguageModel
    run: Run
    params: Params
    step: int


# Training.


def train(
    family: Family,
    cfg: Config,
    workdir: str | Path,
    *,
    hooks: Sequence[Hook] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains a model in `workdir`, or continues where an earlier call stopped.

    Every process of a run calls this with the same arguments, and sees the same files.

    Args:
      family, cfg, workdir: family, configuration and directory of the run.
      hooks: called after every step; see `training.hooks`.
      should_stop: asked after each step; True saves and ends early.

    Returns:
      Whether the training is finished.

    Raises:
      ValueError: the directory belongs to another run, another process writes to it,
        or the data do not fit.
      NonFiniteError: the loss is not finite; workdir/fault_<step> has the data to
        reproduce it.
      OSError: the directory cannot be read or written.
    """
    workdir, cfg = Path(workdir), cfg.of_family(family.name)
    _require_trainable(cfg)
    lm = family.make(cfg)
    num_steps = budget.num_steps(cfg.train, cfg.model.length, lm.flops_per_token)
    # An unknown sampler or a warm-up that is too long should fail now, not later.
    family.resolve(cfg.sample)
    make_optimizer(cfg.optimizer, num_steps)
    mesh = sharding.make_mesh(
        cfg.train.batch_size // cfg.train.accumulation, fsdp=cfg.train.fsdp_devices
    )
    with files.io_error_context(cfg.data.cache_dir):
        data = distributed.process_zero_first(lambda: dataset.load(cfg))
    if distributed.broadcast_from_zero(loop.is_finished(workdir, num_steps)):
        require_same(workdir, family.name, cfg)
        require_same_text(workdir, family.name, data)
        return True
    batches = train_batches(
        data.train,
        cfg.train.batch_size,
        cfg.seed,
        jax.process_index(),
        jax.process_count(),
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            files.io_error_context(workdir, _latest_checkpoint(workdir))
        )
        if distributed.is_process_zero():
            stack.enter_context(files.only_writer(workdir))
            stack.enter_context(_fault_dump(cfg, workdir, data.train))
        source = None
        if cfg.train.init_from and not _has_checkpoint(workdir):
            lm, source = starting_from(lm, cfg, data.tokenizer)
        run = distributed.process_zero_first(
            lambda: create(workdir, family.name, cfg, data, source)
        )
        _note_other_threads(run)
        loop.train(
            lm,
            cfg,
            batches,
            workdir,
            num_steps,
            hooks=[*_own_hooks(family, lm, run), *hooks],
            mesh=mesh,
            should_stop=should_stop,
            task=family.name,
        )
    distributed.process_zero_first(lambda: None)  # wait for its last files
    return distributed.broadcast_from_zero(loop.is_finished(workdir, num_steps))


def starting_from(
    lm: LanguageModel, cfg: Config, tokenizer: Tokenizer
) -> tuple[LanguageModel, dict[str, Any]]:
    """The model whose first backbone is that of the run cfg.train.init_from.

    Returns:
      The model, and what is said of its beginning in run.json.

    Raises:
      ValueError: there is no such run, its backbone has other sizes, or its tokens mean
        other text.
    """
    other = load(Path(cfg.train.init_from).expanduser())
    ours, theirs = (
        dataclasses.asdict(model) for model in (cfg.model, other.run.cfg.model)
    )
    for name in (name for name in ours if name not in NOT_OF_BACKBONE):
        require(
            ours[name] == theirs[name],
            f"TrainConfig.init_from={cfg.train.init_from} has {name}={theirs[name]}, "
            f"and this run has {ours[name]}: pass --config.model.{name}={theirs[name]}",
        )
    require(
        other.run.tokenizer.fingerprint == tokenizer.fingerprint,
        f"TrainConfig.init_from={cfg.train.init_from} has another tokenizer, so that "
        "its embeddings mean other text: train on the same text with the same "
        "data.seed",
    )
    backbone = other.params["backbone"]
    progress.note(
        f"begins with the backbone of {other.run.path}, step {other.step:,} of "
        f"{other.family.name}"
    )
    which = checkpoint.identity(other.run.checkpoints, other.step)
    source = {"run": str(other.run.path), "family": other.family.name}
    start = lm._replace(init=lambda key: lm.init(key) | {"backbone": backbone})
    return start, source | {"checkpoint": which}


def plan(family: Family, cfg: Config, workdir: str | Path) -> str:
    """What `train` would do, in one line: sizes, cost and the least time it can take.

    Only the cache of prepared data is written. Memory is that of the state, of the
    gradients and, roughly, of the activations. The time is that of as many matrix
    products at the speed of this machine; the rest of a step comes on top.

    Raises:
      ValueError: the directory belongs to another run, or the data do not fit.
    """
    cfg = cfg.of_family(family.name)
    _require_trainable(cfg)
    lm = family.make(cfg)
    family.resolve(cfg.sample)
    require_free(Path(workdir), family.name, cfg, dataset.load(cfg))
    steps = budget.num_steps(cfg.train, cfg.model.length, lm.flops_per_token)
    make_optimizer(cfg.optimizer, steps)
    begin = ""
    if cfg.train.init_from and not _has_checkpoint(Path(workdir)):
        lm, found = starting_from(lm, cfg, dataset.load(cfg).tokenizer)
        begin = f", from the backbone of {found['run']}"
    params = jax.tree.leaves(jax.eval_shape(lm.init, jax.random.key(0)))
    num_params = sum(leaf.size for leaf in params)
    tokens = steps * cfg.train.batch_size * cfg.model.length
    flops = tokens * lm.flops_per_token
    copies = 5 if cfg.train.ema else 4  # parameters, gradients, two moments, average
    memory = 4 * copies * num_params + malloc.step_bytes(cfg)
    seconds = flops / devices.matmul_flops_per_second(cfg.model.dtype)
    return (
        f"{family.name}, seed {cfg.seed}: {num_params:,} parameters, {steps:,} steps "
        f"of {cfg.train.batch_size} windows, {tokens:,} tokens, {flops:.1e} FLOPs, "
        f"about {memory / 1e6:,.0f} MB, "
        f"{progress.duration(seconds)} for the matrix products alone{begin}"
    )


def _require_trainable(cfg: Config) -> None:
    name = cfg.model.architecture
    require(
        name == "llama",
        f"ModelConfig.architecture={name!r} is a published network, which this library "
        "evaluates and samples and does not train: choose architecture='llama'",
    )


def _num_threads() -> int:
    return devices.num_threads() if jax.default_backend() == "cpu" else 0


def _note_other_threads(run: Run) -> None:
    if 0 != run.num_threads != _num_threads() != 0:
        progress.note(
            f"{run.path} was begun with {run.num_threads} CPU threads and goes on with "
            f"{_num_threads()}, which changes the last digits of its numbers: "
            f"NPROC={run.num_threads} before the command keeps them"
        )


def _own_hooks(family: Family, lm: LanguageModel, run: Run) -> list[Hook]:
    """Validation, and samples where the configuration asks for them."""
    plan = run.cfg.train
    own = [hooks.validate(plan.eval_every, _make_score(lm, run))]
    if plan.sample_every:
        own.append(hooks.sample(plan.sample_every, _make_preview(family, lm, run)))
    return own


def _make_score(lm: LanguageModel, run: Run) -> Callable[[Params], dict[str, float]]:
    """Score of the learning curve: always the same windows and the same masks."""
    cfg = run.cfg
    held_out = run.valid[: cfg.train.eval_windows]
    log_likelihood = row_log_likelihood(lm)

    def validate(params: Params) -> dict[str, float]:
        found = score(
            lm,
            params,
            held_out,
            dataset.num_bytes(run.tokenizer, held_out),
            key=stream(cfg.seed, Stream.VALIDATION),
            num_draws=cfg.train.eval_draws,
            batch_size=cfg.evaluate.batch_size,
            log_likelihood=log_likelihood,
        )
        return {name: found[name] for name in ("nats_per_token", "standard_error")}

    return validate


def _make_preview(
    family: Family, lm: LanguageModel, run: Run
) -> Callable[[Params], list[str]]:
    """A few samples with the run's own settings, always with the same noise."""
    cfg = family.resolve(run.cfg.sample)
    length = cfg.length or run.cfg.model.length
    prompt = family.samplers()[cfg.sampler].prompt
    template = make_template(run.tokenizer, (NUM_PREVIEWS, length), prompt)
    compiled: list[Callable] = []

    def draw(params: Params) -> list[str]:
        if not compiled:
            key = stream(run.cfg.seed, Stream.PREVIEW)
            compiled.append(compile_sampler(lm, params, key, template, cfg))
        rows = np.asarray(compiled[0](0, params).tokens)
        return [run.tokenizer.first_document(row)[0] for row in rows]

    return draw


def _latest_checkpoint(workdir: Path) -> Callable[[], str]:
    def describe() -> str:
        step = checkpoint.latest_step(workdir / checkpoint.DIRECTORY)
        return "no checkpoint" if step is None else f"the checkpoint of step {step}"

    return describe


@contextlib.contextmanager
def _fault_dump(cfg: Config, workdir: Path, windows: Windows) -> Iterator[None]:
    """Keeps the batch whose loss is not finite."""
    try:
        yield
    except nonfinite.NonFiniteError as error:
        order = batch_indices(len(windows), cfg.train.batch_size, cfg.seed)
        numbers = np.asarray(order[error.step - 1])
        nonfinite.dump(
            workdir / f"fault_{error.step}",
            error,
            numbers,
            windows[numbers],
            seed=cfg.seed,
            checkpoint=checkpoint.latest_step(workdir / checkpoint.DIRECTORY),
        )
        raise


# A trained model.


def load(
    workdir: str | Path,
    family: Family | None = None,
    checkpoint: int | str = "latest",
) -> Trained:
    """Reads the model of a run.

    Args:
      workdir: directory of the run.
      family: family of the run; default: `FAMILY` of the package <name>_jax, where
        <name> is the family in run.json.
      checkpoint: "latest", "best" (lowest validation loss) or a step. With
        "latest" and "best" damaged checkpoints are skipped.

    Raises:
      ValueError: there is no run, no such checkpoint, or none that is sound; or the run
        is of another family.
      OSError: the directory cannot be read.
    """
    path = Path(workdir)
    if family is None:
        family = load_family(_read(path, RECORD)["family"])
    run = open_run(path, family.name)
    lm = family.make(run.cfg)
    abstract = jax.eval_shape(lambda: lm.init(jax.random.key(0)))
    restored = restore_params(run.checkpoints, abstract, checkpoint)
    return Trained(family, lm, run, *restored)


def sample(
    model: Trained,
    cfg: SampleConfig | None = None,
    *,
    seed: int = 0,
    prompt: str = "",
    infill: str = "",
    prompts: Sequence[str] | None = None,
    infills: Sequence[str] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    trace: bool = False,
) -> tuple[list[Sample], SamplingStats]:
    """Samples texts from a trained model.

    Args:
      model: from `load`.
      cfg: settings; default: those of the run; with `prompts` or `infills`,
        num_samples=1.
      seed: sample i depends on the seed and i, not on the batch size.
      prompt: beginning of every sample; default: the sampler's own, if it has one.
      infill: fixed text with gaps, "Once [12] and then [20]. The end."; not for AR.
      prompts, infills: list of prompts, or of infills, in place of one; cfg.num_samples
        is then the number of samples of each. Sample j of line i depends on the seed,
        i and j, and records the line.
      out: file to which samples are appended; an incomplete one is continued.
      overwrite: whether to replace a file that holds other samples.
      trace: whether to keep the order in which tokens were unmasked.

    Returns:
      All samples, also those already in the file, and the cost of the new ones.

    Raises:
      ValueError: there is no such sampler, the given text does not fit, or the file
        holds other samples.
    """
    require_seed(seed)
    family, lm, run, params, step = model
    kind, lines = _lines_of(prompt, infill, prompts, infills)
    if cfg is None:
        cfg = run.cfg.sample
        cfg = dataclasses.replace(cfg, num_samples=1) if lines else cfg
    cfg = family.resolve(cfg)
    if not (infill or lines):
        prompt = prompt or family.samplers()[cfg.sampler].prompt
    length = cfg.length or run.cfg.model.length
    require(
        length <= run.cfg.model.length,
        f"SampleConfig.length={length} is longer than the window of the run, "
        f"{run.cfg.model.length} tokens: shorten it, or leave it at 0",
    )
    settings = {
        name: value for name, value in vars(cfg).items() if name not in NOT_IN_SAMPLES
    }
    fill = partial(make_template, run.tokenizer, (1, length))
    if lines:
        if kind == "prompt":
            lines = [_without_line_end(run, line) for line in lines]
        require(
            cfg.num_samples <= KEYS_PER_LINE and len(lines) <= MAX_LINES,
            f"{len(lines)} {kind}s with {cfg.num_samples} samples each are too many: "
            f"give at most {MAX_LINES:,} {kind}s and num_samples={KEYS_PER_LINE:,}",
        )
        template = _templates(fill, kind, lines, can_infill=family.can_infill)
        settings |= {
            "num_samples": cfg.num_samples,
            f"{kind}s_hash": cache.content_key(*lines),
        }
    else:
        prompt = _without_line_end(run, prompt)
        template = fill(prompt, infill, can_infill=family.can_infill)
    identity = {
        "seed": seed,
        "trace": trace,
        "sampler": {
            "family": family.name,
            "checkpoint": step,
            "parameters": checkpoint_metadata.fingerprint(params),
            "prompt": prompt,
            "infill": infill,
            **settings,
        },
        "versions": versions(),
    }
    return generate(
        lm,
        params,
        stream(seed, Stream.SAMPLING),
        cfg,
        template,
        run.tokenizer,
        identity,
        lines=lines,
        out=out,
        overwrite=overwrite,
        task=f"{family.name}: sampling",
    )


def _lines_of(
    prompt: str,
    infill: str,
    prompts: Sequence[str] | None,
    infills: Sequence[str] | None,
) -> tuple[str, list[str]]:
    """("prompt" or "infill", its lines); no lines where a single text is given."""
    kind, lines = ("infill", infills) if prompts is None else ("prompt", prompts)
    if lines is None:
        return "", []
    require(
        not (prompt or infill) and (prompts is None or infills is None),
        f"several {kind}s exclude another prompt or infill: give one of prompt, "
        "infill, prompts and infills",
    )
    require(len(lines) > 0, f"there are no {kind}s: give at least one")
    return kind, list(lines)


def _templates(
    fill: Callable[..., np.ndarray], kind: str, lines: Sequence[str], **options: bool
) -> np.ndarray:
    """The template of every line; an error names the number of the line."""
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            require(bool(line.strip()), f"it is blank: give the {kind}, or delete it")
            rows.append(fill(**{kind: line}, **options))
        except ValueError as error:
            raise ValueError(f"line {number} of the {kind}s: {error}") from None
    return np.concatenate(rows)


def _without_line_end(run: Run, prompt: str) -> str:
    """Removes line breaks at the end of the prompt if no held-out text has one: the
    model has never seen what follows a line break."""
    stripped = prompt.rstrip()
    ending = prompt[len(stripped) :]
    if "\n" not in ending:
        return prompt
    token = run.tokenizer.encode(["a\n"])[0][-1]
    if not run.valid.size or np.any(run.valid == token):
        return prompt
    progress.note(
        f"the prompt ends in {ending!r}, which no held-out text of this run holds: it "
        "is left out"
    )
    return stripped


def evaluate(
    model: Trained,
    cfg: EvaluateConfig | None = None,
    *,
    text_file: str = "",
    windows: str = "",
    stride: int = 0,
    per_document: bool = False,
    sampler: SampleConfig | None = None,
) -> dict[str, Any]:
    """Scores the held-out windows of a run, or all of the user's text.

    A document longer than a window is scored in several windows, and num_cut_documents
    counts such documents. Without a stride, a window does not see those before it,
    which costs nats. With cfg.max_windows > 0 only so many windows are scored, and
    num_bytes_left_out is the number of bytes in the others.

    Args:
      model: from `load`.
      cfg: default: `evaluate_config` of the settings of the run.
      text_file: paths of text files, separated by commas; default: the held-out text.
      windows: "document" (an EOS ends each document of the text file) or "stream" (one
        text without EOS); default: as the run was trained.
      stride: tokens of the text file by which windows advance; each token is scored
        once, and sees at least L - stride tokens before it; 0 is L.
      per_document: whether to add "documents": the score of each document of the text
        file, no other document being in its windows; or of each held-out window. With
        max_windows, the last document may be scored in part.
      sampler: a sampler whose own likelihood is wanted in place of the model's: exact
        where its order of tokens depends on visible tokens alone, else bounds from
        cfg.num_orders draws. Full windows are scored, the others counted.

    Raises:
      ValueError: the text cannot be read, or the arguments do not fit each other.

    Returns:
      checkpoint (step that was read), nats_per_token, bits_per_byte, is_bound,
      standard_error, low, high, num_tokens, num_bytes, num_draws, num_windows; and the
      rest of `evaluation.scores`. With a sampler: what `sampler_likelihood.score` says.
    """
    _, lm, run, params, step = model
    cfg = cfg or evaluate_config(run.cfg.evaluate, text_file, stride)
    text, texts, about = _text_windows(run, text_file, windows, stride, per_document)
    scored = packing.without_given(text.windows, text.num_given)
    num_bytes = run.tokenizer.num_bytes[scored].sum(axis=1)
    if sampler is not None:
        require(
            not (stride or per_document),
            "the likelihood of a sampler is one of whole windows: leave out stride and "
            "per_document",
        )
        found = _evaluate_sampler(model, sampler, cfg, text.windows, num_bytes)
        return {"checkpoint": step, **about, **found}
    kept = slice(cfg.max_windows or None)
    # Documents without ends between them share words, and windows of a text file do.
    of_words = scored[kept].reshape(1, -1) if text_file else scored[kept]
    num_words = (
        sum(len(words(document)) for document in texts)
        if texts and not cfg.max_windows
        else dataset.num_words(run.tokenizer, of_words)
    )
    found = scores(
        lm,
        params,
        text.windows[kept],
        cfg,
        key=stream(run.cfg.seed, Stream.SCORING),
        num_bytes=int(num_bytes[kept].sum()),
        num_words=num_words,
        num_given=text.num_given[kept] if stride else None,
        document=text.document[kept] if per_document else None,
    )
    if per_document:
        sizes = np.bincount(text.document[kept], num_bytes[kept])
        for line, size in zip(found["documents"], sizes.tolist(), strict=True):
            i = line["index"]
            shown = texts[i] if texts else run.tokenizer.decode(text.windows[i])
            line |= {"num_bytes": int(size), "text": shown[:NUM_CHARACTERS]}
    left_out = int(num_bytes.sum()) - found["num_bytes"]
    return {"checkpoint": step, **about, "num_bytes_left_out": left_out, **found}


def _evaluate_sampler(
    model: Trained,
    sampler: SampleConfig,
    cfg: EvaluateConfig,
    windows: Windows,
    num_bytes: np.ndarray,
) -> dict[str, Any]:
    """The likelihood of the full windows under a sampler, and its settings."""
    family, lm, run, params, _ = model
    is_full = np.all(windows != PAD, axis=1)
    kept = np.flatnonzero(is_full)[: cfg.max_windows or None]
    require(
        len(kept) > 0,
        f"{len(is_full)} windows, and none is full: the likelihood of a sampler is one "
        "of whole windows, so give more text",
    )
    sampler = family.resolve(sampler)
    found = sampler_likelihood.score(
        lm,
        params,
        windows[kept],
        sampler,
        family.order(sampler, run.cfg.model.length),
        key=stream(run.cfg.seed, Stream.SAMPLER_LIKELIHOOD),
        num_orders=cfg.num_orders,
        batch_size=cfg.batch_size,
        num_bytes=int(num_bytes[kept].sum()),
        num_resamples=cfg.num_resamples,
    )
    settings = {
        name: x for name, x in vars(sampler).items() if name not in NOT_IN_SAMPLES
    }
    return {
        "sampler": sampler.sampler,
        "settings": settings,
        "num_windows_not_full": int(np.sum(~is_full)),
        "windows": kept.tolist(),
        **found,
    }


def score_infills(
    model: Trained,
    gaps: Sequence[infills.Gap],
    cfg: EvaluateConfig | None = None,
    sampler: SampleConfig | None = None,
) -> list[dict[str, Any]]:
    """Scores the fills of gaps: p(fill | text around it), and which is likeliest.

    Args:
      model: from `load`.
      gaps: texts with a gap, and the texts that may fill it.
      cfg: number of orders, and batch size; default: those of the run.
      sampler: the sampler that fills gaps; default: that of the run. For a family that
        cannot look ahead it has no effect.

    Returns:
      A dictionary for each gap; see `evaluation.infills.summary`.

    Raises:
      ValueError: a text is too long, or the sampler has no likelihood.
    """
    family, lm, run, params, _ = model
    rows = infills.encode(run.tokenizer, gaps, run.cfg.model.length)
    kind, nats = infills.score(
        family,
        lm,
        params,
        rows,
        family.resolve(sampler or run.cfg.sample),
        cfg or run.cfg.evaluate,
        stream(run.cfg.seed, Stream.SAMPLER_LIKELIHOOD),
    )
    return infills.summary(gaps, rows, kind, nats)


def _text_windows(
    run: Run, text_file: str, mode: str, stride: int, alone: bool
) -> tuple[TextWindows, list[str], dict[str, Any]]:
    """The windows to score; the documents of the text file; and what is said of them.

    Without a text file these are the held-out windows, and there are no documents.
    """
    length = run.cfg.model.length
    if not text_file:
        require(
            not (mode or stride),
            "windows and stride are about the text of a file, and the held-out windows "
            "of a run are cut already: pass --text_file=FILE",
        )
        count = len(run.valid)
        require(
            count > 0,
            f"{run.path} holds no held-out windows, as it was imported without text: "
            "pass --text_file=FILE",
        )
        given, document = np.zeros(count, int), np.arange(count)
        return TextWindows(run.valid, given, document, 0), [], {}
    mode = mode or run.cfg.data.windows
    require(
        mode in ("document", "stream"),
        f"windows={mode!r} is unknown: choose 'document' or 'stream'",
    )
    require(
        0 <= stride <= length,
        f"stride={stride} must lie between 0 and {length}, the window of the run",
    )
    paths = text_files.paths(text_file, "--text_file")
    texts = list(chain.from_iterable(map(text_files.documents, paths)))
    encoded = run.tokenizer.encode(texts)
    text = packing.pack_all(encoded, length, mode, stride, alone)
    about = {
        "windows": mode,
        "stride": stride,
        "per_document": alone,
        "num_documents": len(texts),
        "num_cut_documents": text.num_cut,
    }
    return text, texts, about


def evaluate_config(
    cfg: EvaluateConfig, text_file: str = "", stride: int = 0
) -> EvaluateConfig:
    """The settings of a run as they hold for a text file and for a stride.

    A limit on the held-out windows is none on the text; details need windows that do
    not overlap.
    """
    of_text = {"max_windows": 0} if text_file else {}
    of_stride = {"detail_windows": 0} if stride else {}
    return dataclasses.replace(cfg, **of_text, **of_stride)


def score_samples(
    model: Trained, samples: Sequence[Sample], num_draws: int
) -> list[float]:
    """log p, or a bound on it, of the first document of each sample."""
    _, lm, run, params, _ = model
    rows = [_first_document(sample.tokens) for sample in samples]
    nats, _ = window_nats(
        lm,
        params,
        np.stack(rows).astype(np.uint16),
        key=stream(run.cfg.seed, Stream.SAMPLE_LIKELIHOOD),
        num_draws=num_draws,
        batch_size=run.cfg.evaluate.batch_size,
    )
    return (-nats).tolist()


def _first_document(tokens: Sequence[int]) -> np.ndarray:
    """The window with PAD after the end of its first document."""
    ids = np.asarray(tokens)
    has_ended = np.cumsum(ids == EOS) - (ids == EOS) > 0
    return np.where(has_ended, PAD, ids)


# The directory.


def create(
    path: Path,
    family: str,
    cfg: Config,
    data: Dataset,
    source: Mapping[str, Any] | None = None,
) -> Run:
    """Creates the run directory, or opens it if it holds the same run.

    A directory without a checkpoint is overwritten, as nothing was trained in it.

    Args:
      path, family, cfg, data: directory, family, configuration and data of the run.
      source: origin of parameters that were not drawn or not trained here, as JSON.

    Raises:
      ValueError: the directory belongs to another run.
      OSError: it cannot be read or written.
    """
    identity = {"family": family, "corpus": data.name, "fingerprint": data.fingerprint}
    if files.exists(path / RECORD):
        difference = require_free(path, family, cfg, data)
        if not difference:
            return open_run(path, family)
        what = difference.partition(": ")[0]
        progress.note(f"{what}. It holds no checkpoint, so it is taken over")
    path.mkdir(parents=True, exist_ok=True)
    files.remove(path / RECORD)
    data.tokenizer.save(path / "tokenizer.model")
    with files.whole_file(path / "valid_windows.npy") as part, part.open("wb") as file:
        np.save(file, np.asarray(data.valid))
    files.write_json(path / "config.json", cfg.to_dict())
    values = {**identity, "num_threads": _num_threads(), "versions": versions()}
    if source is not None:
        values |= {"source": source}
    parts = [path / name for name in SEALED]
    # Written last: if it exists, the other files are complete.
    files.write_json(path / RECORD, files.with_digests(values, path, parts))
    return open_run(path, family)


def require_free(path: Path, family: str, cfg: Config, data: Dataset) -> str:
    """Checks that a run may be trained in a directory, which need not exist.

    Returns:
      The difference, if it holds another run without checkpoints, which may be
      replaced; else "".

    Raises:
      ValueError: the directory belongs to another run, which has checkpoints.
    """
    if not files.exists(path / RECORD):
        return ""
    try:
        require_same(path, family, cfg)
        require_same_text(path, family, data)
    except ValueError as difference:
        if _has_checkpoint(path):
            raise
        return str(difference)
    return ""


def _has_checkpoint(path: Path) -> bool:
    return any(name.isdecimal() for name in files.names(path / checkpoint.DIRECTORY))


def open_run(path: Path, family: str) -> Run:
    """Reads what `create` wrote.

    Raises:
      ValueError: the directory holds no run, one of another family, or damaged files.
    """
    stored = _read(path, RECORD)
    try:
        files.require_undamaged(path / RECORD, stored)
    except files.CorruptFileError as damage:
        raise _with_way_out(damage) from None
    require(
        stored["family"] == family,
        f"{path} is a run of the family {stored['family']!r}, not {family!r}: "
        f"use {stored['family']}_jax, or name another --workdir",
    )
    return Run(
        path=path,
        family=family,
        cfg=read_config(path),
        tokenizer=load_tokenizer(path / "tokenizer.model"),
        valid=np.load(path / "valid_windows.npy"),
        fingerprint=stored["fingerprint"],
        num_threads=stored.get("num_threads", 0),
    )


def num_threads_of(path: Path) -> int:
    """CPU threads that the run in `path` was begun with; 0 if none, or unknown."""
    is_there = files.exists(path / RECORD)
    return _read(path, RECORD).get("num_threads", 0) if is_there else 0


def read_config(path: Path) -> Config:
    """The configuration that a run was trained with.

    Sections of other families are left out: their packages need not be there.
    """
    names = {field.name for field in dataclasses.fields(Config)}
    names.add(_read(path, RECORD)["family"])
    values = _read(path, "config.json")
    return Config.from_dict({name: values[name] for name in values if name in names})


def require_same(path: Path, family: str, cfg: Config) -> None:
    """Raises ValueError unless the run in `path` was trained as `cfg` says.

    Sampling and evaluation may be configured anew; they do not change what is trained.
    """
    stored = open_run(path, family).cfg.to_dict()
    wanted = cfg.to_dict()
    differing = [
        line
        for section in (*TRAINING_SECTIONS, family)
        for line in _differing(section, stored.get(section), wanted.get(section))
    ]
    require(
        not differing,
        f"{path} was trained with {'; '.join(differing)}: name another --workdir, or "
        "the same values",
    )


def require_same_text(path: Path, family: str, data: Dataset) -> None:
    """Raises ValueError unless the run in `path` was trained on the text of `data`."""
    require(
        open_run(path, family).fingerprint == data.fingerprint,
        f"{path} was trained on other text than corpus {data.name!r} holds now: "
        "bring that text back, or name another --workdir",
    )


def _read(path: Path, name: str) -> Any:
    """A JSON file of the run."""
    if not files.exists(path / RECORD):
        below = sorted(n for n in files.names(path) if (path / n / RECORD).exists())
        way_out = "train first, or name another --workdir"
        if below:
            way_out = f"choose --workdir={path}/" + f" or --workdir={path}/".join(below)
        raise ValueError(
            f"{path} is no run directory, as it holds no {RECORD}: {way_out}"
        )
    try:
        values = files.read_json(path / name, rename=name != RECORD)
    except files.CorruptFileError as damage:
        raise _with_way_out(damage) from None
    if not isinstance(values, dict) or (
        name == RECORD and not {"family", "fingerprint"} <= values.keys()
    ):
        what = f"{path / name} is damaged: it is no {name} of a run"
        raise _with_way_out(files.CorruptFileError(what))
    return values


def _with_way_out(damage: files.CorruptFileError) -> files.CorruptFileError:
    what = str(damage).partition(";")[0]
    return files.CorruptFileError(
        f"{what}; take it from a copy of the run, or name another --workdir"
    )


def _differing(field: str, stored: Any, wanted: Any) -> Iterator[str]:
    """The fields whose values differ, with both values."""
    if isinstance(stored, dict):
        for name in stored:
            yield from _differing(f"{field}.{name}", stored[name], wanted[name])
    elif field not in MAY_DIFFER and stored != wanted:
        yield f"{field}={stored!r}, not {wanted!r}"


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide the numbers."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages}
