"""The longest run of words that a document copies from the training text.

Memorised text is fluent and, if much was memorised, varied, so neither fluency nor
variety shows it. Held-out human text shows how long such runs are by chance.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from lm_jax.evaluation.intervals import Estimate, mean_interval
from lm_jax.evaluation.ngrams import words


class WordIds(NamedTuple):
    """Documents as integers, with -1 after every document.

    Attributes:
      index: id of each word.
      flat: word ids of all documents.
    """

    index: dict[str, int]
    flat: Int[np.ndarray, " words"]

    @classmethod
    def of(cls, documents: Sequence[str]) -> "WordIds":
        """Numbers the words; 4 bytes and about half a microsecond a word."""
        index: dict[str, int] = {}
        flat = []
        for document in documents:
            flat += [index.setdefault(word, len(index)) for word in words(document)]
            flat.append(-1)
        return cls(index, np.array(flat, np.int32))


def longest_runs(
    documents: Sequence[str], training: WordIds
) -> Int[np.ndarray, " documents"]:
    """Words in the longest run of each document that is in one training document.

    Runs grow by one word at a time, and positions whose run has ended are dropped, so
    that soon only the copied documents remain, however long the training text. Exact:
    runs are compared by id, not by hash.
    """
    unknown = len(training.index)
    lines = [
        [training.index.get(word, unknown) for word in words(document)]
        for document in documents
    ]
    own = np.array([word for line in lines for word in [*line, -1]], np.int64)
    document = np.repeat(np.arange(len(lines)), [len(line) + 1 for line in lines])
    longest = np.zeros(len(lines), np.int64)
    here, there = np.arange(len(own)), np.arange(len(training.flat))
    run_here, run_there = np.zeros(len(here), np.int64), np.zeros(len(there), np.int64)
    length = 0
    while len(here) and len(there):
        here, run_here = _grow(own, here, run_here, length, unknown)
        there, run_there = _grow(training.flat, there, run_there, length, unknown)
        distinct, run_here = np.unique(run_here, return_inverse=True)
        position = np.minimum(
            np.searchsorted(distinct, run_there), max(len(distinct) - 1, 0)
        )
        is_shared = distinct[position] == run_there if len(distinct) else position < 0
        there, run_there = there[is_shared], position[is_shared]
        is_copied = np.zeros(len(distinct), bool)
        is_copied[run_there] = True
        kept = is_copied[run_here]
        here, run_here = here[kept], run_here[kept]
        length += 1
        longest[document[here]] = length
    return longest


def longest_run(
    documents: Sequence[str],
    training: WordIds,
    num_resamples: int = 1_000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The mean of `longest_runs` in words, and as a share of the document's words."""
    runs = longest_runs(documents, training)
    total = np.array([len(words(document)) for document in documents])
    share = runs / np.maximum(total, 1)
    return {
        "longest_copied_run": mean_interval(runs, num_resamples, seed),
        "longest_copied_share": mean_interval(share, num_resamples, seed),
    }


def _grow(
    flat: np.ndarray, begins: np.ndarray, run: np.ndarray, length: int, unknown: int
) -> tuple[np.ndarray, np.ndarray]:
    """The runs that contain one more word, and their ids with that word."""
    inside = begins + length < len(flat)
    begins, run = begins[inside], run[inside]
    word = flat[begins + length].astype(np.int64)
    goes_on = (word >= 0) & (word < unknown)
    return begins[goes_on], run[goes_on] * unknown + word[goes_on]
