"""Checkpoint metadata: shapes, dtypes and checksums, used to detect corruption."""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.typing import ArrayLike
from jaxtyping import Array, UInt32

from lm_jax.files import CorruptFileError

UINTS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}


def make(
    state: Any,
    position: Mapping[str, Any],
    totals: Mapping[str, Any],
    nats_per_token: float | None,
) -> dict[str, Any]:
    """Manifest of a checkpoint, with a checksum of the manifest itself.

    It has the shape, type and checksum of every array, the position in the data, the
    run's totals and its validation loss.
    """
    sums = checksums(named(state))
    manifest = {
        "arrays": {
            name: {"shape": [*x.shape], "dtype": x.dtype.name, "sum": sums[name]}
            for name, x in named(state).items()
        },
        "position": dict(position),
        "totals": dict(totals),
        "nats_per_token": None if nats_per_token is None else float(nats_per_token),
    }
    return manifest | {"crc32": crc32(manifest)}


def checked(path: Path, manifest: Any) -> dict[str, Any]:
    """The manifest of the checkpoint at `path`, after a check of its checksum.

    Raises:
      CorruptFileError: the checksum differs.
    """
    if not isinstance(manifest, dict) or crc32(manifest) != manifest.get("crc32"):
        raise CorruptFileError(f"{path} is damaged: its manifest is not what was saved")
    return manifest


def require_equal_shapes(path: Path, saved: Mapping[str, Any], wanted: Any) -> None:
    """Raises ValueError if names, shapes or types of arrays differ from the model's."""
    there = {name: f"{a['dtype']}{tuple(a['shape'])}" for name, a in saved.items()}
    here = {name: f"{a.dtype.name}{a.shape}" for name, a in named(wanted).items()}
    for name in here | there:
        if here.get(name) != there.get(name):
            raise ValueError(
                f"{path} is a checkpoint of another model: {name} is "
                f"{there.get(name, 'absent')} there, {here.get(name, 'absent')} here; "
                "use the version and the settings that it was trained with, or another "
                "--workdir"
            )


def require_equal_sums(path: Path, saved: Mapping[str, Any], tree: Any) -> None:
    """Raises CorruptFileError if the checksum of an array differs.

    A checksum covers the whole array, so every process gets the same result.
    """
    arrays = named(tree)
    sums = checksums(arrays)
    for name in arrays:
        if saved[name].get("sum") != sums[name]:
            raise CorruptFileError(f"{path} is damaged: {name} is not what was saved")


def named(tree: Any) -> dict[str, Any]:
    """Leaves of a tree by path, e.g. "params/bias"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    name = jax.tree_util.keystr
    return {name(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def split(arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Groups named arrays by field of the state: the first part of the name."""
    parts = {}
    for name, array in arrays.items():
        parts.setdefault(name.split("/")[0], {})[name] = array
    return parts


def abstract(arrays: Mapping[str, Any]) -> Any:
    """Nested dictionaries of the shapes and types of named arrays."""
    shapes = {
        name: jax.ShapeDtypeStruct(tuple(a["shape"]), a["dtype"])
        for name, a in arrays.items()
    }
    return traverse_util.unflatten_dict(shapes, sep="/")


def crc32(value: Any) -> int:
    """CRC-32 of a JSON value, without the entry "crc32" of a manifest."""
    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if k != "crc32"}
    return zlib.crc32(json.dumps(value, sort_keys=True, default=repr).encode())


# Checksums of arrays, independent of how an array is sharded.


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
