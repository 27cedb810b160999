"""Estimates with 95% intervals over documents, training seeds or windows.

Every interval is for the expected value of its statistic at this number of documents.
The statistic determines which one to use:

    mean_interval, ratio_interval   means and ratios of sums: percentile bootstrap
    share_interval                  a share of documents: Wilson's score interval
    jackknife_interval              distinct counts, entropies, distances
    bootstrap, index_bootstrap      any other smooth function of the documents
    t_interval                      a mean over a few training seeds
    difference                      of two independent estimates, from their intervals
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Num
from scipy import stats

from lm_jax.config import require

Z_95 = statistics.NormalDist().inv_cdf(0.975)  # 1.96


class Estimate(NamedTuple):
    """A statistic and the two ends of its 95% interval; NaN if undefined.

    One document gives no interval, and text without words has no share of known words.
    """

    value: float
    low: float
    high: float


NOTHING = Estimate(float("nan"), float("nan"), float("nan"))  # undefined


def as_json(estimate: Estimate) -> dict[str, float | None]:
    """{"value", "low", "high"}, with None (JSON's null) for NaN."""
    return {
        name: None if math.isnan(number) else float(number)
        for name, number in estimate._asdict().items()
    }


def bootstrap(
    statistic: Callable[[Sequence[str]], float],
    documents: Sequence[str],
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """Percentile bootstrap over documents; Efron 1979, doi:10.1214/aos/1176344552.

    A resample repeats documents, which biases statistics that depend on repeats
    (distinct n-grams, vocabulary, entropy): use `jackknife_interval` for those.
    """
    value = float(statistic(documents))
    return _percentiles(
        value,
        lambda index: statistic([documents[int(i)] for i in index]),
        len(documents),
        num_resamples,
        seed,
    )


def ratio_interval(
    numerators: Num[np.ndarray, " documents"],
    denominators: Num[np.ndarray, " documents"],
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """sum(numerators) / sum(denominators), one pair a document; NaN if that is 0 / 0.

    Resamples whose denominators sum to 0 are left out of the interval.
    """

    def ratio(index: np.ndarray | slice) -> float:
        total = denominators[index].sum()
        return float(numerators[index].sum() / total) if total else float("nan")

    value = ratio(slice(None))
    return _percentiles(value, ratio, len(numerators), num_resamples, seed)


def mean_interval(
    values: Num[np.ndarray, " documents"], num_resamples: int = 1_000, seed: int = 0
) -> Estimate:
    """The mean of one number per document, by percentile bootstrap."""
    return ratio_interval(values, np.ones(len(values)), num_resamples, seed)


def index_bootstrap(
    statistic: Callable[[np.ndarray], float],
    num_items: int,
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """Percentile bootstrap of a function of the indices of items."""
    value = float(statistic(np.arange(num_items)))
    return _percentiles(value, statistic, num_items, num_resamples, seed)


def t_interval(values: Num[np.ndarray, " seeds"]) -> Estimate:
    """The mean of a few independent values, +- t_{n-1} standard errors; Student 1908.

    With three seeds t is 4.3, not 1.96. The ends for a single value are infinite, as
    one seed has no variance.

    Raises:
      ValueError: there is no value.

    >>> found = t_interval(np.array([1.0, 2.0, 3.0]))
    >>> print(f"{found.value} [{found.low:.2f}, {found.high:.2f}]")
    2.0 [-0.48, 4.48]
    """
    num_seeds = len(values)
    require(num_seeds >= 1, "an interval over 0 seeds: train at least one")
    mean = float(np.mean(values))
    if num_seeds == 1:
        return Estimate(mean, -float("inf"), float("inf"))
    error = stats.sem(values)
    if error == 0.0:  # scipy has NaN
        return Estimate(mean, mean, mean)
    low, high = stats.t.interval(0.95, num_seeds - 1, loc=mean, scale=error)
    return Estimate(mean, float(low), float(high))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """one - other for independent estimates, from their own 95% intervals.

        low  = d - sqrt((one - one.low)^2 + (other.high - other)^2)
        high = d + sqrt((one.high - one)^2 + (other - other.low)^2)

    Zou and Donner 2008, doi:10.1002/sim.3095; for two shares with Wilson's intervals
    it is Newcombe's method 10. The difference is resolved if 0 lies outside.

    >>> difference(Estimate(5.0, 2.0, 8.0), Estimate(1.0, -3.0, 5.0))
    Estimate(value=4.0, low=-1.0, high=9.0)
    """
    value = one.value - other.value
    below = np.hypot(one.value - one.low, other.high - other.value)
    above = np.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, float(value - below), float(value + above))


def paired_difference(
    values: Num[np.ndarray, " pairs"],
    others: Num[np.ndarray, " others"],
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """mean(values) - mean(others), resampled in pairs: two families, the same windows.

    The effect of a window on both families cancels, so the interval is shorter than the
    intervals of the two means suggest.

    Raises:
      ValueError: the numbers of values differ.
    """
    require(
        len(values) == len(others),
        f"a paired difference of {len(values)} and {len(others)} values: "
        "score both families on the same windows",
    )
    return mean_interval(values - others, num_resamples, seed)


def share_interval(hits: Bool[np.ndarray, " documents"]) -> Estimate:
    """The share of hits, with Wilson's score interval, which also covers at 0 and 1.

    A bootstrap of 250 hits in 250 documents has width 0; this interval begins at 98.5%.
    Wilson 1927, doi:10.1080/01621459.1927.10502953.

    >>> found = share_interval(np.array([True] * 250))
    >>> print(f"{found.value} [{found.low:.3f}, {found.high}]")
    1.0 [0.985, 1.0]
    """
    _require_documents(len(hits))
    num_hits, count = int(hits.sum()), len(hits)
    ends = stats.binomtest(num_hits, count).proportion_ci(0.95, method="wilson")
    return Estimate(num_hits / count, float(ends.low), float(ends.high))


def jackknife_interval(
    value: float,
    leave_one_out: Num[np.ndarray, " documents"],
    upper_bound: float = float("inf"),
) -> Estimate:
    """value +- 1.96 standard errors, from the statistic without each document in turn.

    For statistics that depend on repeats. Resampling with replacement misses a third of
    the documents, so counts of distinct items fall below the value that they should
    surround; subsampling needs the rate at which the count grows, which differs by
    source. The jackknife repeats no document, and needs no rate and no random numbers.
    Its variance is never too small in expectation, for any statistic that ignores the
    order of the documents: Efron and Stein 1981, doi:10.1214/aos/1176345462. The
    interval is a little too wide if most items occur once or twice; if every item
    occurs in several documents, the interval of a count has width 0.

    A single document has no interval: its ends are NaN.
    """
    count = len(leave_one_out)
    if count < 2:
        return Estimate(float(value), float("nan"), float("nan"))
    variance = (count - 1) * np.var(leave_one_out)
    spread = Z_95 * float(np.sqrt(variance))
    value = float(value)  # JSON has no numpy types
    low, high = max(value - spread, 0.0), min(value + spread, upper_bound)
    return Estimate(value, low, high)


def _percentiles(
    value: float,
    statistic: Callable[[np.ndarray], float],
    count: int,
    num_resamples: int,
    seed: int,
) -> Estimate:
    """The middle 95% of a statistic of document indices drawn with replacement."""
    _require_documents(count)
    if count == 1 or math.isnan(value):
        return Estimate(value, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(count, size=count)) for _ in range(num_resamples)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _require_documents(count: int) -> None:
    require(count >= 1, "an interval over 0 documents: pass at least one document")
