"""The number of distinct labels in a sample, and its expected value (rarefaction).

A count of distinct labels grows with the sample. `rarefaction` gives the count in a
sample of this size from the reference, to which the count should be compared.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy.special import gammaln

from lm_jax.config import require
from lm_jax.evaluation.intervals import Estimate, jackknife_interval

Label = str | int


def num_distinct(labels: Sequence[Label]) -> Estimate:
    """The number of distinct labels."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return _interval(len(counts), len(counts) - (counts == 1), inverse)


def num_singletons(labels: Sequence[Label]) -> Estimate:
    """The number of labels that occur once.

    >>> num_singletons(["a", "a", "b", "c"]).value
    2.0
    """
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    value = int((counts == 1).sum())
    # Without one item, a label of one item vanishes and a label of two is a singleton.
    return _interval(value, value - (counts == 1) + (counts == 2), inverse)


def rarefaction(
    reference: Sequence[Label],
    sample_size: int,
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """E[distinct labels] of m items drawn from the reference without replacement.

        sum_k 1 - C(N - N_k, m) / C(N, m)

    with N_k of the N items in label k; Hurlbert 1971, doi:10.2307/1934145, eq. 14. The
    interval holds 95% of such samples: it is the range of samples from the reference's
    own source, not the uncertainty of the mean.

    Raises:
      ValueError: the reference is smaller than the sample.

    >>> half = ["a"] * 50 + ["b"] * 50
    >>> print(f"{rarefaction(half, 2).value:.3f}")  # 2 - 49 / 99
    1.505
    """
    _, codes, counts = np.unique(reference, return_inverse=True, return_counts=True)
    total = len(codes)
    require(
        sample_size <= total,
        f"sample_size={sample_size} is more than the {total} labels of the reference: "
        "give a larger reference, or cut the sample",
    )
    sizes, multiplicity = np.unique(counts, return_counts=True)
    missing = np.where(
        sizes > total - sample_size,
        0.0,
        np.exp(
            _log_choose(np.maximum(total - sizes, sample_size), sample_size)
            - _log_choose(total, sample_size)
        ),
    )
    value = float((multiplicity * (1.0 - missing)).sum())
    drawn = [
        np.count_nonzero(np.bincount(codes[index]))
        for index in subsamples(total, sample_size, num_resamples, seed)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def subsamples(
    total: int, sample_size: int, num_resamples: int, seed: int
) -> Iterator[Int[np.ndarray, " items"]]:
    """Yields num_resamples arrays of indices of items drawn without replacement."""
    rng = np.random.default_rng(seed)
    for _ in range(num_resamples):
        yield rng.choice(total, sample_size, replace=False, shuffle=False)


def _log_choose(n: Any, k: int) -> Any:
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def _interval(value: int, without: np.ndarray, inverse: np.ndarray) -> Estimate:
    return jackknife_interval(float(value), without[inverse])
