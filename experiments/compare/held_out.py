"""The reference of a comparison: held-out text, training text and the grammar."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.families import FAMILIES
from lm_jax import progress
from lm_jax import run as runs
from lm_jax.config import Config
from lm_jax.data import dataset, storyworld
from lm_jax.data.storyworld.agreement import agreement_errors
from lm_jax.data.windows import num_tokens
from lm_jax.evaluation.fluency import Reference
from lm_jax.evaluation.ngrams import is_spaceless
from lm_jax.types import EOS, PAD


class HumanReference(NamedTuple):
    """The texts and the grammar with which samples are compared.

    Attributes:
      human: held-out documents, cut at the length of a sample.
      is_finished: for each of them, whether it was not cut.
      training: documents of the training text.
      reference: words and n-grams of the training text.
      log_prob: text -> log-probability under the grammar; None without a grammar.
      errors: text -> number of errors by kind; None without a grammar.
      window_nats: -log p of each held-out window under the grammar; None where windows
        begin in the middle of a story.
      corpus: description of the corpus for results.json.
    """

    human: list[str]
    is_finished: list[bool]
    training: Sequence[str]
    reference: Reference
    log_prob: Callable[[str], float] | None
    errors: Callable[[str], Mapping[str, int]] | None
    window_nats: list[float] | None
    corpus: dict[str, Any]


def load(cfg: Config, workdir: Path) -> HumanReference:
    """The reference of a finished comparison in `workdir`."""
    data = dataset.load(cfg)
    name = next(iter(FAMILIES.values())).name  # all families have the same text
    run = runs.open_run(workdir / name, name)
    runs.require_same_text(run.path, name, data)
    firsts = human_texts(cfg, data)
    num_valid = num_tokens(run.valid)
    corpus = {
        "name": data.name,
        "edition": data.edition,
        "fingerprint": data.fingerprint,
        "num_train_windows": len(data.train),
        "num_train_tokens": num_tokens(data.train),
        "num_valid_windows": len(run.valid),
        "num_valid_tokens": num_valid,
        "num_train_stories": len(data.train_documents),
        "num_valid_stories": len(data.valid_documents),
        "bytes_per_token": dataset.num_bytes(run.tokenizer, run.valid) / num_valid,
        "entropy": None,
        "is_spaceless": any(map(is_spaceless, data.valid_documents)),
    }
    log_prob, errors, nats = None, None, None
    if cfg.data.corpus == "storyworld":
        log_prob, errors = storyworld.log_prob, agreement_errors
        corpus["entropy"] = {"nats_per_story": storyworld.entropy()}
        if cfg.data.windows == "document":  # the grammar starts with a story
            nats = source_nats(run)
            corpus["entropy"]["nats_per_token"] = sum(nats) / num_valid
    training = list(data.train_documents)
    return HumanReference(
        human=[text for text, _ in firsts],
        is_finished=[finished for _, finished in firsts],
        training=training,
        reference=Reference.of(training),
        log_prob=log_prob,
        errors=errors,
        window_nats=nats,
        corpus=corpus,
    )


def human_texts(cfg: Config, data: dataset.Dataset) -> list[tuple[str, bool]]:
    """(text, is_finished) of held-out documents, cut at the length of a sample.

    Where windows begin in the middle of a document, the windows are used instead.
    """
    length, count = cfg.sample.length or cfg.model.length, cfg.sample.num_samples
    if cfg.data.windows == "document":
        encoded = data.tokenizer.encode(data.valid_documents[:count])
        rows = [[*tokens.tolist(), EOS][:length] for tokens in encoded]
    else:
        rows = data.valid[:count, :length]
    return [data.tokenizer.first_document(row) for row in rows]


def source_nats(run: runs.Run) -> list[float]:
    """-log p of each held-out window under storyworld's own grammar, in nats.

    A whole story counts with its exact probability, a story that the window cuts with
    the probability of its prefix. Other tokens could spell the text before the cut, so
    this is a lower bound; the gap is far less than one token per window.
    """
    windows = progress.over(run.valid, "scoring under the grammar", "windows")
    return [-_log_prob(run, window) for window in windows]


def _log_prob(run: runs.Run, window: np.ndarray) -> float:
    tokens = window[window != PAD]
    *whole, last = run.tokenizer.documents(tokens)
    is_cut = tokens[-1] != EOS
    score_last = storyworld.prefix_log_prob if is_cut else storyworld.log_prob
    return sum(storyworld.log_prob(text) for text in whole) + score_last(last)
