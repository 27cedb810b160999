"""Timing on a noisy machine: programs take turns, and a figure is a median."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lm_jax import progress


class Spread(NamedTuple):
    """Seconds of one call: the median, the extremes, and how many were timed."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        """Of at least one call.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, low=1.0, high=3.0, count=3)
        """
        low, high = min(seconds), max(seconds)
        return cls(statistics.median(seconds), low, high, len(seconds))


def alternate(
    programs: Mapping[str, Callable[[], Any]],
    *,
    repeats: int,
    patience: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Spread]:
    """Calls every program in turn, `repeats` times, after one call that is not timed.

    What disturbs the machine for a while disturbs all of them alike.

    Args:
      programs: by name; each returns when its work is done.
      repeats: rounds.
      patience: seconds after which a program is not called again.
    """
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    names = " ".join(programs)
    for program in progress.over(programs.values(), f"compiling {names}", "programs"):
        program()
    for _ in progress.over(range(repeats), f"timing {names}", "rounds"):
        for name, program in programs.items():
            if seconds[name] and sum(seconds[name]) > patience:
                continue
            start = clock()
            program()
            seconds[name].append(clock() - start)
    return {name: Spread.of(found) for name, found in seconds.items()}


def row(spread: Spread, num_tokens: int) -> dict[str, Any]:
    """A line of a table: seconds of a call that reads or writes so many tokens."""
    return {
        "seconds": spread.median,
        "low": spread.low,
        "high": spread.high,
        "repeats": spread.count,
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
