"""Handlers of SIGTERM and SIGINT: save and exit with status 0."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def leave_on_signal(announce: bool = True) -> None:
    """Makes either signal end the program with status 0; a second SIGINT kills it.

    This is safe, as files are written atomically or continued by the next call.

    Args:
      announce: whether to say so on standard error.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if announce:
            _print(b"stopped; run again to go on\n")
        sys.exit(0)

    _handle(leave)


@contextlib.contextmanager
def finish_step(announce: bool = True) -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether a signal has arrived.

    Meanwhile signals do not end the program: training checks after each step, saves
    and returns. A second SIGINT kills the program at once.

    Args:
      announce: whether to say so on standard error.
    """
    received = []

    def record(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if announce:
            _print(
                b"stopping after this step, to save; interrupt again to stop at once\n"
            )
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = _handle(record)
    try:
        yield lambda: bool(received)
    finally:
        if not received:
            _handle(*before)


def _handle(*handlers: Any) -> list[Any]:
    """Sets one handler for both signals, or one for each; returns the previous ones."""
    both = handlers * 2 if len(handlers) == 1 else handlers
    return [signal.signal(*pair) for pair in zip(SIGNALS, both, strict=True)]


def _print(text: bytes) -> None:
    os.write(2, text)  # print() is not safe in a signal handler
