"""Timing on a noisy machine: alternating rounds, and medians."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from scipy import stats

from lm_jax import progress
from lm_jax.evaluation.intervals import Estimate


class Spread(NamedTuple):
    """Seconds of all calls of a program, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median in seconds."""
        return statistics.median(self.seconds)

    def over(self, calls: int) -> "Spread":
        """The time of one call, if `calls` calls were timed together."""
        return Spread(tuple(seconds / calls for seconds in self.seconds))

    def faster_than(self, other: "Spread") -> Estimate:
        """Speed relative to `other`: median over the rounds of other / self.

        Within a round both had the same load on the machine. The interval is from order
        statistics and valid for any distribution: at least 95%, or the extremes for
        fewer than six rounds.

        >>> a, b = Spread((1.0, 2.0, 1.0)), Spread((2.0, 4.0, 3.0))
        >>> a.faster_than(b)
        Estimate(value=2.0, low=2.0, high=3.0)
        """
        pairs = zip(self.seconds, other.seconds, strict=False)
        ratios = sorted(theirs / mine for mine, theirs in pairs)
        below = max(int(stats.binom.ppf(0.025, len(ratios), 0.5)) - 1, 0)
        return Estimate(
            statistics.median(ratios), ratios[below], ratios[len(ratios) - 1 - below]
        )


def alternate(
    programs: Mapping[str, Callable[[], Any]],
    *,
    repeats: int,
    patience: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Spread]:
    """Times all programs in `repeats` rounds, after one call each that is not timed.

    A disturbance of the machine then affects all programs alike. Every other round runs
    in reverse order, so that a program does not always follow the same one, whose
    threads may still be active.

    Args:
      programs: programs by name; each returns when its work is done.
      repeats: number of rounds.
      patience: total seconds of a program after which it is not called again.
      clock: () -> current time in seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    names = " ".join(programs)
    for program in progress.over(programs.values(), f"compiling {names}", "programs"):
        program()
    for number in progress.over(range(repeats), f"timing {names}", "rounds"):
        turns = list(programs.items())
        for name, program in reversed(turns) if number % 2 else turns:
            if seconds[name] and sum(seconds[name]) > patience:
                continue
            start = clock()
            program()
            seconds[name].append(clock() - start)
    return {name: Spread(tuple(found)) for name, found in seconds.items()}


def row(spread: Spread, num_tokens: int) -> dict[str, Any]:
    """Statistics of calls with `num_tokens` tokens each, for a table."""
    return {
        "seconds": spread.median,
        "low": min(spread.seconds),
        "high": max(spread.seconds),
        "repeats": len(spread.seconds),
        "tokens_per_second": num_tokens / spread.median,
    }


def break_even(seconds: Mapping[int, float], target: float) -> float | None:
    """The number of steps at which the time reaches `target`, by linear interpolation.

    Args:
      seconds: time by number of steps, increasing.
      target: time in seconds.

    Returns:
      The number of steps; None if it is outside the measured range.

    >>> break_even({8: 1.0, 16: 2.0}, target=1.5)
    12.0
    """
    points = sorted(seconds.items())
    for (few, fast), (many, slow) in zip(points, points[1:], strict=False):
        if fast <= target <= slow:
            share = (target - fast) / (slow - fast) if slow > fast else 0.0
            return few + share * (many - few)
    return None
