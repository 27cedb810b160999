"""Non-finite losses and gradients: the error, and a dump of the batch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from lm_jax import files
from lm_jax.types import Windows


class NonFiniteError(FloatingPointError):
    """A loss or a gradient is not finite.

    Attributes:
      what: quantity, step, batch and value, e.g. "loss at step 3, ... is nan".
      step: number of the step; the first is 1.
    """

    def __init__(self, what: str, value: float, step: int):
        self.what = f"{what} is {value}"
        super().__init__(
            f"{self.what}: the run stops, and its checkpoints are from before this "
            "step; lower optimizer.learning_rate, look at the batch, or set "
            "train.max_skipped to skip such steps"
        )
        self.step = step


def require_finite(value: float, what: str, step: int) -> None:
    """Raises NonFiniteError with the words `what` unless the value is finite."""
    if not np.isfinite(value):
        raise NonFiniteError(what, value, step)


def dump(
    directory: Path,
    error: NonFiniteError,
    batch_indices: Int[ndarray, " B"],
    x: Windows,
    **origin: Any,
) -> None:
    """Writes the batch of a failed step, and adds its path to the error.

    batch.npy has the windows x (B, L) in the order of the step's rows; fault.json has
    their indices in the training set, and the origin. The same command, run again, goes
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
        f"{error}; the batch, windows {first}, ..., is saved in {directory}, and the "
        "same command, run again, reaches the same step",
    )
