"""Progress reports: a bar on a terminal, plain lines elsewhere."""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

DELAY = 2.0  # seconds; a shorter task shows no bar
INTERVAL = 10.0  # seconds between plain lines
LINE_MARK = ""  # before each plain line; it tells a parent process which lines they are

Item = TypeVar("Item")


def is_terminal() -> bool:
    """Whether standard error is a terminal, on which bars can be drawn."""
    return sys.stderr.isatty()


def note(text: str) -> None:
    """Prints a line to standard error, above the bars if there are any."""
    tqdm.write(text, file=sys.stderr)


def duration(seconds: float) -> str:
    """Minutes and seconds, 02:05, or hours as well, 1:00:00."""
    return tqdm.format_interval(seconds)


class Progress:
    """Progress of one task, with the time left.

    A bar on a terminal. Elsewhere a line every ten seconds, without control characters,
    for a log; a task that is over sooner prints nothing.

    Args:
      task: name of the task, one or two words.
      total: number of units; None if unknown.
      unit: name of the units, in the plural.
      done: number of units already done.
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
        """Counts this many more units as done.

        The first call may include compilation, so the time left is estimated from the
        units after it.
        """
        now = time.perf_counter()
        self._done += count
        self._first = self._first or (self._done, now)
        self._bar.update(count)
        if self._bar.disable and now - self._last_line >= INTERVAL:
            self._print("")

    def say(self, text: str) -> None:
        """Shows a text beside the bar, or prints it at once where there is no bar."""
        if self._bar.disable:
            self._print(f": {text}")
        else:
            self._bar.set_postfix_str(text)

    def close(self) -> None:
        """Closes the bar; an inner bar disappears."""
        self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _print(self, text: str) -> None:
        now = time.perf_counter()
        self._last_line = now
        total = "" if self._total is None else f" of {self._total:,}"
        line = f"{LINE_MARK}{self._task}: {self._done:,}{total} {self._unit}{text}"
        first, since = self._first or (self._done, now)
        if self._total is not None and first < self._done < self._total:
            seconds = (now - since) / (self._done - first) * (self._total - self._done)
            line += f", {duration(seconds)} left"
        print(line, file=sys.stderr, flush=True)


class Lines:
    """A line for each of several tasks on a terminal; elsewhere, lines in turn."""

    def __init__(self, names: Iterable[str]):
        self._bars: dict[str, tqdm] = {}
        for position, name in enumerate(names if is_terminal() else ()):
            self._bars[name] = tqdm(total=0, position=position, bar_format="{desc}")

    def show(self, name: str, line: str) -> None:
        """Replaces the line of a task, or prints it where there are no fixed lines."""
        if name in self._bars:
            # A line that is broken would leave a part of itself behind.
            width = shutil.get_terminal_size().columns - 1
            self._bars[name].set_description_str(line[:width])
        else:
            note(line)

    def close(self) -> None:
        """Leaves the last lines where they are."""
        for bar in self._bars.values():
            bar.close()


def over(
    items: Iterable[Item], task: str, unit: str, total: int | None = None
) -> Iterator[Item]:
    """Yields the items and reports progress.

    Args:
      items: items of the task.
      task: name of the task, as for `Progress`.
      unit: name of the units, as for `Progress`.
      total: number of items; default: len(items), if it has one.
    """
    if total is None:
        total = len(items) if hasattr(items, "__len__") else None  # pyright: ignore
    with Progress(task, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()
