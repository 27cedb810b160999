"""Sizes, shapes and rows of the tensors of a published network, checked."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from lm_jax.validation import require

DTYPES = (np.float32, np.float16, jnp.bfloat16)


def size(settings: Mapping[str, Any], name: str) -> int:
    """A size in config.json.

    Raises:
      ValueError: it is missing, or no positive integer.
    """
    value = settings.get(name)
    require(
        type(value) is int and 0 < value < 2**24,
        f"config.json has {name}={value!r}, which is no size of a network: give the "
        "config.json of this checkpoint",
    )
    return value  # pyright: ignore[reportReturnType]


def checked_length(length: int, trained: int) -> int:
    """The length of a window; 0 is that of training.

    Raises:
      ValueError: it is longer than that of training, or no length.
    """
    require(
        length == 0 or 2 <= length <= trained,
        f"length={length} must lie between 2 and {trained}, the length that the "
        "network was trained at; 0 takes that length",
    )
    return length or trained


def rows(table: ndarray, source: list[int | None]) -> ndarray:
    """A table with the row source[i] of `table` at i; None gives zeros.

    >>> rows(np.array([7.0, 8.0, 9.0]), [2, None, 0]).tolist()
    [9.0, 0.0, 7.0]
    """
    extended = np.concatenate([table, np.zeros_like(table[:1])])
    return extended[[len(table) if i is None else i for i in source]]


def checked(
    tensors: Mapping[str, ndarray],
    prefix: str,
    shapes: Mapping[str, tuple[int, ...]],
    optional: str,
) -> dict[str, ndarray]:
    """The tensors in float32, by names without the prefix; `optional` may be missing.

    Raises:
      ValueError: a tensor is missing, unknown, or of another shape or type.
    """
    found = {name.removeprefix(prefix): array for name, array in tensors.items()}
    for name, array in found.items():
        require(
            name in shapes,
            f"the checkpoint has {name}, which this network does not have: choose "
            "another --from, or another checkpoint",
        )
        require(
            array.dtype in DTYPES,
            f"the checkpoint has {name} as {array.dtype}: give float32, float16 or "
            "bfloat16, as quantized and integer weights are not read",
        )
        require(
            array.shape == shapes[name],
            f"the checkpoint has {name} of the shape {array.shape}, and its "
            f"config.json needs {shapes[name]}: give the pair of one model",
        )
        found[name] = np.asarray(array, np.float32)
        require(
            bool(np.isfinite(found[name]).all()),
            f"the checkpoint has numbers in {name} that are not finite: copy it again",
        )
    missing = shapes.keys() - found.keys() - {optional}
    require(
        not missing,
        f"the checkpoint lacks {min(missing, default='')}: it is cut off, or of "
        "another architecture",
    )
    return found
