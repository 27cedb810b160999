"""The model of a run: opened, evaluated, and asked how likely its documents are."""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lm_jax import checkpoint, run_directory
from lm_jax.config import Config, EvaluateConfig
from lm_jax.data import dataset, text_files, windows
from lm_jax.evaluation.likelihood import window_nats
from lm_jax.evaluation.scores import scores
from lm_jax.language_model import LanguageModel
from lm_jax.run_directory import Run
from lm_jax.sampling.text import Sample
from lm_jax.types import EOS, PAD, Params

Family = Callable[[Config], LanguageModel]

# What the seed's key is folded with; app.py and training/loop.py have the others.
SCORING, SAMPLED = 3, 5


class Trained(NamedTuple):
    """The model of a run.

    Attributes:
      lm: the family's functions.
      run: the run's directory.
      params: the latest sound parameters.
      step: the step of the checkpoint that holds them.
    """

    lm: LanguageModel
    run: Run
    params: Params
    step: int


def open_model(family: Family, workdir: str | Path) -> Trained:
    """The model of a run, with its latest sound parameters."""
    path = Path(workdir)
    name = family(Config()).name
    run = run_directory.open_run(path, name)
    lm = family(run.cfg)
    abstract = jax.eval_shape(lambda: lm.init(jax.random.key(0)))
    return Trained(lm, run, *checkpoint.restore_params(run.checkpoints, abstract))


def evaluate(
    family: Family,
    workdir: str | Path,
    cfg: EvaluateConfig | None = None,
    *,
    text_file: str = "",
) -> dict[str, Any]:
    """Scores the held-out windows of a run, or the user's text, all of it.

    A document longer than a window is scored piece by piece, and the later pieces do
    not see the earlier ones, which costs nats: num_cut_documents says of how many that
    holds. cfg.max_windows, where it is not 0, leaves out what stands behind so many
    windows; num_bytes_left_out says how much.

    Args:
      family, workdir: the run.
      cfg: default: the run's own, but all windows of a text file.
      text_file: paths of text files, separated by commas; default: the held-out text.

    Returns:
      checkpoint, the step that was read; nats_per_token, bits_per_byte, is_bound,
      standard_error, low, high, num_tokens, num_bytes, num_draws, num_windows; and the
      rest of `evaluation.scores`.
    """
    lm, run, params, step = open_model(family, workdir)
    held_out, about = run.valid, {"checkpoint": step}
    if text_file:
        cfg = cfg or dataclasses.replace(run.cfg.evaluate, max_windows=0)
        paths = text_files.paths(text_file, "--text_file")
        texts = list(chain.from_iterable(map(text_files.documents, paths)))
        encoded, length = run.tokenizer.encode(texts), run.cfg.model.length
        held_out = windows.pack_all(encoded, length, run.cfg.data.windows)
        has_end = run.cfg.data.windows == "document"
        about |= {
            "num_documents": len(texts),
            "num_cut_documents": sum(len(x) + has_end > length for x in encoded),
        }
    cfg = cfg or run.cfg.evaluate
    left_out = held_out[cfg.max_windows :] if cfg.max_windows else held_out[:0]
    about["num_bytes_left_out"] = dataset.num_bytes(run.tokenizer, left_out)
    held_out = held_out[: cfg.max_windows or None]
    return about | scores(
        lm,
        params,
        held_out,
        cfg,
        key=jax.random.fold_in(jax.random.key(run.cfg.seed), SCORING),
        num_bytes=dataset.num_bytes(run.tokenizer, held_out),
        num_words=dataset.num_words(run.tokenizer, held_out),
    )


def score_samples(
    family: Family, workdir: str | Path, samples: Sequence[Sample], num_draws: int
) -> list[float]:
    """log p, or a bound on it, of the first document of each sample, by a run's model."""
    lm, run, params, _ = open_model(family, workdir)
    rows = [_first_document(sample.tokens) for sample in samples]
    nats, _ = window_nats(
        lm,
        params,
        np.stack(rows).astype(np.uint16),
        key=jax.random.fold_in(jax.random.key(run.cfg.seed), SAMPLED),
        num_draws=num_draws,
        batch_size=run.cfg.evaluate.batch_size,
    )
    return (-nats).tolist()


def _first_document(tokens: Sequence[int]) -> np.ndarray:
    """The window with PAD behind the end of its first document."""
    ids = np.asarray(tokens)
    has_ended = np.cumsum(ids == EOS) - (ids == EOS) > 0
    return np.where(has_ended, PAD, ids)
