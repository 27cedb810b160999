"""Checksums of arrays, independent of how an array is sharded."""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, UInt32

UINTS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}


def checksums(arrays: Mapping[str, ArrayLike]) -> dict[str, int]:
    """Checksum of each named array, in one program and one sum over devices."""
    sums = np.asarray(_checksums([*arrays.values()])).tolist()
    return dict(zip(arrays, sums, strict=True))


def fingerprint(tree: Any) -> str:
    """Checksum of the arrays of a tree and of their names: 8 hexadecimal digits."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    sums = checksums({jax.tree_util.keystr(path): leaf for path, leaf in leaves})
    return f"{zlib.crc32(repr(sorted(sums.items())).encode()):08x}"


@jax.jit
def _checksums(arrays: list[ArrayLike]) -> UInt32[Array, " arrays"]:
    return jnp.stack([checksum(jnp.asarray(x)) for x in arrays])


def checksum(x: jax.Array) -> UInt32[Array, ""]:
    """sum_i mix(w_i + c i) mod 2^32 over the words w_i, where mix permutes words.

    A sum of integers does not depend on the order, so every device adds up its own part
    and no array is gathered. A change of one word always changes the sum; a change of
    several words leaves it equal with probability 2^-32.
    """
    x = x.astype(jnp.uint8) if x.dtype == bool else x
    words = jax.lax.bitcast_convert_type(x, UINTS[x.dtype.itemsize])
    words = words.astype(jnp.uint32)
    index = jnp.arange(math.prod(words.shape), dtype=jnp.uint32).reshape(words.shape)
    return jnp.sum(_mix(words + index * jnp.uint32(0x9E3779B9)), dtype=jnp.uint32)


def _mix(h: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3, a bijection; Appleby 2011."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
