"""Metrics of openings, the first words of documents.

A count of distinct openings does not separate variety from noise: it is highest for
random openings. The share of the commonest opening, the entropy and the distance to
human openings do. Entropy rises and distance falls with the number of documents:
compare only sets of equal size.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from lm_jax.config import require
from lm_jax.evaluation.distances import (
    JENSEN_SHANNON,
    TOTAL_VARIATION,
    distance,
    sampling_floor,
)
from lm_jax.evaluation.intervals import Estimate, jackknife_interval, share_interval
from lm_jax.evaluation.ngrams import opening
from lm_jax.evaluation.richness import num_distinct, num_singletons, rarefaction

MAX_WORDS = 5  # longest opening
DISTANCES = {"total_variation": TOTAL_VARIATION, "jensen_shannon": JENSEN_SHANNON}


def opening_shares(
    documents: Sequence[str], n: int = 5, top: int = 10
) -> list[tuple[str, float]]:
    """The commonest openings of n words and their shares; ties in order of text."""
    counts = Counter(_openings(documents, n))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(text, count / len(documents)) for text, count in ranked[:top]]


def share_of_commonest(documents: Sequence[str], n: int) -> Estimate:
    """The share of documents that begin with the commonest opening of n words.

    The interval is that of the share of this opening.
    """
    (text, _), *_ = opening_shares(documents, n, top=1)
    return share_interval(np.array(_openings(documents, n)) == text)


def opening_entropy(documents: Sequence[str], n: int = 5) -> Estimate:
    """-sum_k p_k log p_k of openings of n words, in nats; at most log(documents)."""
    labels = _openings(documents, n)
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    total = len(labels)
    terms = _count_log_count(counts)
    value = float(_entropy(terms.sum(), total))
    without = terms.sum() - terms + _count_log_count(counts - 1)
    return jackknife_interval(value, _entropy(without, total - 1)[inverse])


def opening_distance(
    documents: Sequence[str], reference: Sequence[str], n: int = 1
) -> Estimate:
    """1/2 sum_k |p_k - q_k|: total variation to the reference's openings, in [0, 1].

    Two samples of one source have a distance above 0: `openings_by_length` has that
    floor. The interval treats the reference as fixed.
    """
    return distance(TOTAL_VARIATION, _openings(documents, n), _openings(reference, n))


def openings(
    documents: Sequence[str], reference: Sequence[str] | None = None
) -> dict[str, Estimate]:
    """Shares and entropies of openings, and the distance of first words to a reference.

    All with 95% intervals. Without a reference there is no distance.
    """
    table = {
        "share_of_commonest_first_word": share_of_commonest(documents, 1),
        "share_of_commonest_opening": share_of_commonest(documents, 5),
        "first_word_entropy": opening_entropy(documents, 1),
        "opening_entropy": opening_entropy(documents, 5),
    }
    if reference is not None:
        table["opening_distance"] = opening_distance(documents, reference)
    return table


def openings_by_length(
    documents: Sequence[str],
    reference: Sequence[str] | None = None,
    *,
    num_resamples: int = 1_000,
    seed: int = 0,
) -> dict[str, dict[str, Estimate]]:
    """Every measure of openings of n words, for n = "1" to "5".

    share_of_commonest, entropy (nats), distinct, singletons; with a reference also
    rarefaction, the distinct openings of an equally large sample of the reference, and
    two distances, each with its sampling floor. `<measure>_floor` and `rarefaction`
    have the range of such samples. A measure above the range separates the documents
    from the reference; one within it does not. Openings shorter than n words count as
    they are.
    """
    table = {}
    for n in range(1, MAX_WORDS + 1):
        labels = _openings(documents, n)
        row = {
            "share_of_commonest": share_of_commonest(documents, n),
            "entropy": opening_entropy(documents, n),
            "distinct": num_distinct(labels),
            "singletons": num_singletons(labels),
        }
        if reference is not None:
            others = _openings(reference, n)
            sampling = (len(labels), num_resamples, seed)
            if len(labels) <= len(others):
                row["rarefaction"] = rarefaction(others, *sampling)
            for name, kind in DISTANCES.items():
                row[name] = distance(kind, labels, others)
                row[f"{name}_floor"] = sampling_floor(kind, others, *sampling)
        table[str(n)] = row
    return table


def _openings(documents: Sequence[str], n: int) -> list[str]:
    require(
        len(documents) > 0, "the openings of 0 documents: pass at least one document"
    )
    return [opening(document, n) for document in documents]


def _count_log_count(counts: np.ndarray) -> np.ndarray:
    """c log c, which is 0 at c = 0."""
    return counts * np.log(np.maximum(counts, 1))


def _entropy(sum_count_log_count: Any, total: int) -> Any:
    """log N - sum_k c_k log c_k / N, never below zero."""
    return np.maximum(np.log(max(total, 1)) - sum_count_log_count / max(total, 1), 0.0)
