"""Timing on a noisy machine: programs take turns, and a figure is a median."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from scipy import stats

from lm_jax import progress
from lm_jax.evaluation.intervals import Estimate


class Spread(NamedTuple):
    """Seconds of every call, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """In the middle; of an even number, the mean of the two there."""
        return statistics.median(self.seconds)

    def over(self, calls: int) -> "Spread":
        """Of one of so many calls that were timed together."""
        return Spread(tuple(seconds / calls for seconds in self.seconds))

    def faster_than(self, other: "Spread") -> Estimate:
        """How many times as fast this is: median over the rounds of other / this.

        Within a round both had the machine in the same mood. The interval is from
        order statistics, valid for any distribution: 95% at least, or the extremes
        where there are fewer than six rounds.

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
    """Calls every program in turn, `repeats` times, after one call that is not timed.

    What disturbs the machine for a while disturbs all of them alike. Every other round
    goes backwards, so that no program always follows the same one, whose threads may
    still be awake.

    Args:
      programs: by name; each returns when its work is done.
      repeats: rounds.
      patience: seconds after which a program is not called again.
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
    """A line of a table: seconds of a call that reads or writes so many tokens."""
    return {
        "seconds": spread.median,
        "low": min(spread.seconds),
        "high": max(spread.seconds),
        "repeats": len(spread.seconds),
        "tokens_per_second": num_tokens / spread.median,
    }


def break_even(seconds: Mapping[int, float], target: float) -> float | None:
    """The number of steps at which the time reaches `target`, between measured numbers
    by a line; None where it is reached before the least or after the most of them.

    Args:
      seconds: by number of steps; it grows with them.
      target: seconds.

    >>> break_even({8: 1.0, 16: 2.0}, target=1.5)
    12.0
    """
    points = sorted(seconds.items())
    for (few, fast), (many, slow) in zip(points, points[1:], strict=False):
        if fast <= target <= slow:
            share = (target - fast) / (slow - fast) if slow > fast else 0.0
            return few + share * (many - few)
    return None
