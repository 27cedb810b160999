"""Diversity measures of arXiv:2603.22075 (the paper), with intervals.

A word is an element of `text.lower().split()`, punctuation included. Distinct-n, the
vocabulary and the shares of distinct openings depend on the number and the length of
the documents: compare only sets of equal size.
"""

from collections.abc import Sequence

import numpy as np

from lm_jax.config import require
from lm_jax.evaluation.bleu import MAX_ORDER, candidate_bleus
from lm_jax.evaluation.intervals import Estimate, jackknife_interval, mean_interval
from lm_jax.evaluation.ngrams import incidence, ngram_hashes, opening, words


def distinct_n(documents: Sequence[str], n: int) -> float:
    """Distinct n-grams / n-grams, pooled over all documents; 0 if there are none.

    Li et al. 2016, arXiv:1510.03055.

    >>> distinct_n(["a cat and a cat", "a dog"], 2)  # "a cat" twice, of 5
    0.8
    """
    hashes, _ = ngram_hashes(documents, n)
    return len(np.unique(hashes)) / len(hashes) if len(hashes) else 0.0


def self_bleu(
    documents: Sequence[str],
    seed: int = 0,
    num_candidates: int = 200,
    num_references: int = 50,
) -> float:
    """Mean BLEU-4 of random documents, each against random other documents, in [0, 1].

    The paper's variant of Zhu et al. 2018, arXiv:1802.01886: no smoothing, so a
    document that shares no 4-gram scores 0, and a brevity penalty against the mean
    length of the references. If there are fewer documents than candidates or
    references, all are used.
    """
    scores = candidate_bleus(documents, seed, num_candidates, num_references)
    return float(scores.mean())


def vocabulary(documents: Sequence[str]) -> int:
    """The number of distinct words.

    >>> vocabulary(["A cat", "a dog"])
    3
    """
    return len({word for document in documents for word in words(document)})


def unique_first_words(documents: Sequence[str]) -> float:
    """Distinct first words / documents, the paper's measure of this name."""
    return unique_openings(documents, num_words=1)


def unique_openings(documents: Sequence[str], num_words: int = 5) -> float:
    """Distinct openings / documents, the paper's measure of this name."""
    _require_documents(documents, 1)
    return len({opening(document, num_words) for document in documents}) / len(
        documents
    )


def words_per_document(documents: Sequence[str]) -> float:
    """The mean number of words per document."""
    _require_documents(documents, 1)
    return sum(len(words(document)) for document in documents) / len(documents)


def diversity(
    documents: Sequence[str], *, num_resamples: int = 1_000, seed: int = 0
) -> dict[str, Estimate]:
    """Every measure of this module by name, with its 95% interval over documents.

    The interval of Self-BLEU is the bootstrap of the candidates' scores; their
    dependence through common references is small beside it. A single document has no
    Self-BLEU.

    Raises:
      ValueError: there is no document.
    """
    _require_documents(documents, 1)
    table = {
        f"distinct_{n}": distinct_estimate(documents, n)
        for n in range(1, MAX_ORDER + 1)
    }
    if len(documents) > 1:
        table["self_bleu"] = mean_interval(
            candidate_bleus(documents, seed), num_resamples, seed
        )
    table["vocabulary"] = vocabulary_estimate(documents)
    for name, length in (("unique_first_words", 1), ("unique_openings", 5)):
        table[name] = _unique([opening(document, length) for document in documents])
    num_words = np.array([len(words(document)) for document in documents])
    table["words_per_document"] = mean_interval(num_words, num_resamples, seed)
    return table


def distinct_estimate(documents: Sequence[str], n: int) -> Estimate:
    """`distinct_n` with its interval."""
    num_ngrams, own, distinct = incidence(documents, n)
    total = num_ngrams.sum()
    without = (distinct - own) / np.maximum(total - num_ngrams, 1)
    return jackknife_interval(distinct / max(total, 1), without, upper_bound=1.0)


def vocabulary_estimate(documents: Sequence[str]) -> Estimate:
    """`vocabulary` with its interval."""
    _, own, total = incidence(documents, 1)
    return jackknife_interval(float(total), total - own)


def _unique(labels: Sequence[str]) -> Estimate:
    """Distinct labels / documents, with its jackknife interval."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    without = (len(counts) - (counts[inverse] == 1)) / max(len(labels) - 1, 1)
    return jackknife_interval(len(counts) / len(labels), without, upper_bound=1.0)


def _require_documents(documents: Sequence[str], minimum: int) -> None:
    require(
        len(documents) >= minimum,
        f"the diversity of {len(documents)} documents: at least {minimum} are needed, "
        "generate more samples",
    )
