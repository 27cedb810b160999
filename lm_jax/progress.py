"""Progress: a bar on a terminal, plain lines elsewhere. Nothing else asks which."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

DELAY = 2.0  # seconds; what is over sooner shows no bar
INTERVAL = 10.0  # seconds between plain lines

Item = TypeVar("Item")


def is_terminal() -> bool:
    """Whether somebody watches standard error, and bars can be drawn there."""
    return sys.stderr.isatty()


def note(text: str) -> None:
    """A line for whoever watches; above the bars, where there are any."""
    tqdm.write(text, file=sys.stderr)


class Progress:
    """How far a task is and how long it will take.

    On a terminal it is a bar. Elsewhere it is a line every ten seconds, without control
    characters, which a log can hold; a task that is over sooner says nothing.

    Args:
      task: what is done, in a word or two.
      total: how many units there are; None where nobody knows.
      unit: what is counted, in the plural.
      done: units that were done before.
    """

    def __init__(self, task: str, total: int | None, unit: str, done: int = 0):
        self._task, self._total, self._unit, self._done = task, total, unit, done
        self._bar = tqdm(
            desc=task,
            total=total,
            initial=done,
            unit=f" {unit}",
            delay=DELAY,
            leave=None,  # the outermost bar stays
            disable=not is_terminal(),
        )
        self._last_line = time.perf_counter()
        self._first: tuple[int, float] | None = None

    def advance(self, count: int = 1) -> None:
        """So many more units are done.

        The first of them compile, so that the time left is judged by those after them.
        """
        now = time.perf_counter()
        self._done += count
        self._first = self._first or (self._done, now)
        self._bar.update(count)
        if self._bar.disable and now - self._last_line >= INTERVAL:
            self._print("")

    def say(self, text: str) -> None:
        """Shows a text beside the bar; elsewhere a line has it at once."""
        if self._bar.disable:
            self._print(f": {text}")
        else:
            self._bar.set_postfix_str(text)

    def close(self) -> None:
        """Takes an inner bar away."""
        self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _print(self, text: str) -> None:
        now = time.perf_counter()
        self._last_line = now
        total = "" if self._total is None else f" of {self._total:,}"
        line = f"{self._task}: {self._done:,}{total} {self._unit}{text}"
        first, since = self._first or (self._done, now)
        if self._total is not None and first < self._done < self._total:
            seconds = (now - since) / (self._done - first) * (self._total - self._done)
            line += f", {tqdm.format_interval(seconds)} left"
        print(line, file=sys.stderr, flush=True)


def over(
    items: Iterable[Item], task: str, unit: str, total: int | None = None
) -> Iterator[Item]:
    """The items, one after another, with their progress.

    Args:
      items: what the task is done for, item by item.
      task, unit: of `Progress`.
      total: how many items there are; by default their len(), where they have one.
    """
    if total is None:
        total = len(items) if hasattr(items, "__len__") else None  # pyright: ignore
    with Progress(task, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()
