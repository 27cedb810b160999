"""Fluency of documents, measured by the words and n-grams of the training text.

A model that generates nonsense has high variety. These shares measure how much of a
document consists of known words and n-grams, and `copied_ngram_share` how much of it is
copied. Held-out human text scores below one on all of them: compare with its row.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Num, UInt64

from lm_jax import progress
from lm_jax.evaluation.copying import WordIds, longest_run
from lm_jax.evaluation.intervals import Estimate, ratio_interval, share_interval
from lm_jax.evaluation.ngrams import ngram_hashes, words

_WORD = re.compile(r"\w+(?:['’-]\w+)*")  # without punctuation at its ends


class Reference(NamedTuple):
    """The words and n-grams of the training text.

    Attributes:
      words: distinct words, in lower case, without punctuation.
      ngrams_4: sorted hashes of the distinct 4-grams.
      ngrams_8: sorted hashes of the distinct 8-grams.
      word_ids: training text as word ids, for the longest copied run.
    """

    words: frozenset[str]
    ngrams_4: UInt64[np.ndarray, " ngrams_4"]
    ngrams_8: UInt64[np.ndarray, " ngrams_8"]
    word_ids: WordIds

    @classmethod
    def of(cls, documents: Sequence[str]) -> "Reference":
        """Reads the training text: 20 bytes and about 4 microseconds a word."""
        eights = partial(ngram_set, n=8)
        readers: list[Any] = [word_set, partial(ngram_set, n=4), eights, WordIds.of]
        passes = progress.over(readers, "reading the training text", "passes")
        return cls(*(read(documents) for read in passes))


def word_set(documents: Sequence[str]) -> frozenset[str]:
    """The distinct words, in lower case, without punctuation."""
    return frozenset(word for document in documents for word in _bare_words(document))


def ngram_set(documents: Sequence[str], n: int) -> UInt64[np.ndarray, " ngrams"]:
    """Sorted 64-bit hashes of the distinct n-grams: 8 bytes each."""
    return np.unique(ngram_hashes(documents, n)[0])


def accepted_share(
    documents: Sequence[str], log_prob: Callable[[str], float]
) -> Estimate:
    """The share of documents that a grammar generates, those with log_prob > -inf."""
    return share_interval(
        np.array([log_prob(document) > -np.inf for document in documents])
    )


def known_word_share(
    documents: Sequence[str],
    reference_words: frozenset[str],
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """Words in `reference_words` / words; a misspelt word is not in it."""
    bare = [_bare_words(document) for document in documents]
    known = [sum(word in reference_words for word in text) for text in bare]
    total = [len(text) for text in bare]
    return ratio_interval(np.array(known), np.array(total), num_resamples, seed)


def seen_ngram_share(
    documents: Sequence[str],
    reference_ngrams: UInt64[np.ndarray, " ngrams"],
    n: int = 4,
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """n-grams in `reference_ngrams`, a set of the same n, / n-grams."""
    hashes, document = ngram_hashes(documents, n)
    seen = document[_is_in(hashes, reference_ngrams)]
    return ratio_interval(
        np.bincount(seen, minlength=len(documents)),
        np.bincount(document, minlength=len(documents)),
        num_resamples,
        seed,
    )


def copied_ngram_share(
    documents: Sequence[str],
    reference_ngrams: UInt64[np.ndarray, " ngrams"],
    n: int = 8,
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """`seen_ngram_share` of n-grams so long that they rarely occur twice by chance."""
    return seen_ngram_share(documents, reference_ngrams, n, num_resamples, seed)


def fluency(
    documents: Sequence[str],
    reference: Reference | None = None,
    log_prob: Callable[[str], float] | None = None,
    is_finished: Bool[np.ndarray, " documents"] | None = None,
    *,
    num_resamples: int = 1_000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every measure of fluency whose inputs are given, with its 95% interval.

    Args:
      documents: texts to measure.
      reference: reference of the training text; adds the shares of words and n-grams
        and the longest copied run.
      log_prob: log-probability of a text under the grammar; adds the accepted share.
      is_finished: whether each document ends with EOS; adds the finished share.
      num_resamples: number of bootstrap resamples.
      seed: seed of the bootstrap.
    """
    table = {}
    if log_prob is not None:
        table["accepted_share"] = accepted_share(documents, log_prob)
    if reference is not None:
        measures = {
            "known_word_share": (known_word_share, reference.words),
            "seen_4gram_share": (seen_ngram_share, reference.ngrams_4),
            "copied_8gram_share": (copied_ngram_share, reference.ngrams_8),
        }
        for name, (measure, known) in measures.items():
            table[name] = measure(
                documents, known, num_resamples=num_resamples, seed=seed
            )
        table |= longest_run(documents, reference.word_ids, num_resamples, seed)
    if is_finished is not None:
        table["finished_share"] = share_interval(is_finished)
    return table


def _bare_words(text: str) -> list[str]:
    return [bare for word in words(text) for bare in _WORD.findall(word)]


def _is_in(
    hashes: Num[np.ndarray, " ngrams"], sorted_set: Num[np.ndarray, " known"]
) -> Bool[np.ndarray, " ngrams"]:
    """Whether each hash is in the set, by bisection, without a copy of the set."""
    if not len(sorted_set):
        return np.zeros(len(hashes), bool)
    index = np.searchsorted(sorted_set, hashes)
    return sorted_set[np.minimum(index, len(sorted_set) - 1)] == hashes
