"""Distances between the label distributions of two samples, and their sampling floor.

Both distances lie in [0, 1]: 0 for equal shares of every label, 1 if no label is in
both. Two finite samples of one source have a distance above 0, which `sampling_floor`
gives; a distance within the range of the floor is no evidence of a difference.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from lm_jax.evaluation.intervals import Estimate, jackknife_interval
from lm_jax.evaluation.richness import Label, subsamples

Shares = Num[np.ndarray, " labels"]


class Distance(NamedTuple):
    """finish(sum over labels of term(p, q)), with p and q the shares of a label."""

    term: Callable[[Shares, Shares], Float[np.ndarray, " labels"]]
    finish: Callable[[np.ndarray | float], np.ndarray | float]


def _variation(p: Shares, q: Shares) -> Float[np.ndarray, " labels"]:
    return 0.5 * np.abs(p - q)


def _divergence(p: Shares, q: Shares) -> Float[np.ndarray, " labels"]:
    """Terms of the Jensen-Shannon divergence of p and q, in bits; 0 log 0 is 0."""
    mean = np.maximum(0.5 * (p + q), 1e-300)
    return 0.5 * (_plogq(p, p / mean) + _plogq(q, q / mean))


def _plogq(p: Shares, q: Shares) -> Float[np.ndarray, " labels"]:
    return p * np.log2(np.where(q > 0.0, q, 1.0))


def _root(total: np.ndarray | float) -> np.ndarray | float:
    return np.sqrt(np.maximum(total, 0.0))


TOTAL_VARIATION = Distance(_variation, lambda total: total)
JENSEN_SHANNON = Distance(_divergence, _root)


def distance(kind: Distance, labels: Sequence[Label], others: Sequence[Label]):
    """The distance between the shares of the labels of two samples.

    TOTAL_VARIATION is 1/2 sum_k |p_k - q_k|. JENSEN_SHANNON is the root of
    1/2 KL(p | m) + 1/2 KL(q | m), m = (p + q) / 2, in bits; Lin 1991,
    doi:10.1109/18.61115; a metric: Endres and Schindelin 2003,
    doi:10.1109/TIT.2003.813506. The interval is over `labels`, with `others` fixed.

    >>> distance(TOTAL_VARIATION, ["a", "b"], ["a", "a", "a", "b"]).value
    0.25
    """
    own, p, q = _counts(labels, others)
    q = q / len(others)
    value = float(kind.finish(kind.term(p / len(own), q).sum()))
    fewer = max(len(own) - 1, 1)
    terms = kind.term(p / fewer, q)
    less_one = kind.term(np.maximum(p - 1.0, 0.0) / fewer, q)
    without = np.asarray(kind.finish(terms.sum() - terms + less_one))
    return jackknife_interval(value, without[own], upper_bound=1.0)


def sampling_floor(
    kind: Distance,
    reference: Sequence[Label],
    sample_size: int,
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """The distance between m = sample_size random items of the reference and the rest.

    The mean, and the range of 95% of such distances. A sample of the reference's own
    source lies above that range one time in forty. m is at most half of the reference,
    so the floor of a small reference is too high, never too low.
    """
    _, codes = np.unique(reference, return_inverse=True)
    total = len(codes)
    sample_size = min(sample_size, total // 2)
    if not sample_size:
        return Estimate(1.0, 1.0, 1.0)  # one item is no evidence
    counts = np.bincount(codes)
    found = []
    for index in subsamples(total, sample_size, num_resamples, seed):
        drawn = np.bincount(codes[index], minlength=len(counts))
        rest = (counts - drawn) / (total - sample_size)
        found.append(float(kind.finish(kind.term(drawn / sample_size, rest).sum())))
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(float(np.mean(found)), float(low), float(high))


def _counts(
    labels: Sequence[Label], others: Sequence[Label]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of `labels`, and the counts of both samples over all distinct labels."""
    both = np.concatenate([np.asarray(labels), np.asarray(others)])
    distinct, codes = np.unique(both, return_inverse=True)
    own, other = codes[: len(labels)], codes[len(labels) :]
    size = len(distinct)
    return own, np.bincount(own, minlength=size), np.bincount(other, minlength=size)
