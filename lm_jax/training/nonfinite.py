"""Faults of a run: losses that are not finite or jump, and disks that fail."""

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from lm_jax import files
from lm_jax.types import Windows

NUM_LINES = 20  # that a jump is judged by


class NonFiniteError(FloatingPointError):
    """A loss or a gradient is not finite.

    Attributes:
      what: is not finite, at which step and on which batch.
      step: that found it; 1 is the first.
    """

    def __init__(self, what: str, value: float, step: int):
        self.what = f"{what} is {value}"
        super().__init__(
            f"{self.what}: the run stops and its checkpoints are from before; "
            "lower optimizer.learning_rate, look at the batch, or let "
            "train.max_skipped steps be left out"
        )
        self.step = step


def require_finite(value: float, what: str, step: int) -> None:
    """Raises NonFiniteError, which says what is not finite."""
    if not np.isfinite(value):
        raise NonFiniteError(what, value, step)


def dump(
    directory: Path,
    error: NonFiniteError,
    batch_indices: Int[ndarray, " B"],
    x: Windows,
    **origin: Any,
) -> None:
    """Keeps what made a step fail, and adds to the error where.

    batch.npy holds the windows x (B, L) in the order of the step's rows; fault.json
    their numbers in the training set, and the origin. The same command, run again, goes
    from the last checkpoint to the same step and fails in the same way, bit for bit.
    """
    with files.whole_directory(directory) as part:
        np.save(part / "batch.npy", x)
        record = {
            "error": str(error),
            "step": error.step,
            "batch_indices": batch_indices.tolist(),
            **origin,
        }
        (part / "fault.json").write_text(json.dumps(record, indent=2) + "\n")
    first = ", ".join(map(str, batch_indices[:4]))
    error.args = (
        f"{error}; its batch, windows {first}, ..., lies in {directory}, and running "
        "the same command again reaches it again",
    )


class SpikeWatch:
    """Tells when the training loss jumps."""

    def __init__(self):
        self._recent: deque[float] = deque(maxlen=NUM_LINES)

    def sees(self, nats_per_token: float) -> bool:
        """Whether a line's loss is above the twenty before by more than they differ.

        Of independent normal losses one line in some 30,000 is; a falling loss never.
        """
        recent = list(self._recent)
        self._recent.append(nats_per_token)
        if len(recent) < NUM_LINES:
            return False
        return nats_per_token > 2 * max(recent) - min(recent)


@contextlib.contextmanager
def io_error_context(
    directory: str | Path,
    what_is_left: Callable[[], str] = lambda: "nothing half-written",
) -> Iterator[None]:
    """Says of an error of the disk where it was, what is left, and how to go on."""
    try:
        yield
    except OSError as error:
        try:
            left = what_is_left()
        except OSError:  # the disk does not even say that
            left = "what was saved"
        raise OSError(
            f"cannot read or write {directory} ({error.strerror or error}): {left} is "
            "left there; make room or bring the disk back, and run the same command "
            "again"
        ) from error
