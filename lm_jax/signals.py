"""SIGTERM and SIGINT: an end that saves, and status 0."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def leave_on_signal() -> None:
    """From now on either signal ends the program with status 0, as everything that it
    writes is whole or goes on where it was left. A second SIGINT kills it."""
    _handle(_leave)


@contextlib.contextmanager
def finish_step() -> Iterator[Callable[[], bool]]:
    """Within, either signal only answers: whether one has come. Training asks after
    each step, saves and returns. A second SIGINT kills the program at once."""
    received = []

    def answer(number: int, frame: FrameType | None) -> None:
        received.append(number)
        _tell(b"stopping after this step, to save; interrupt again to stop at once\n")
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = _handle(answer)
    try:
        yield lambda: bool(received)
    finally:
        if not received:
            _handle(*before)


def _handle(*handlers: Any) -> list[Any]:
    """Sets one handler for both signals, or one for each; returns those before."""
    both = handlers * 2 if len(handlers) == 1 else handlers
    return [signal.signal(*pair) for pair in zip(SIGNALS, both, strict=True)]


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _tell(b"stopped; run again to go on\n")
    sys.exit(0)


def _tell(text: bytes) -> None:
    os.write(2, text)  # to print is not safe in a handler
