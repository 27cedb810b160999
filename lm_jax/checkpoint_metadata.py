"""Checkpoint metadata: shapes, dtypes and checksums, used to detect corruption."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from lm_jax.checksums import checksums
from lm_jax.files import CorruptFileError


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
    for name, x in arrays.items():
        if "sum" in saved[name]:
            is_same = saved[name]["sum"] == sums[name]
        else:  # version 0.1.0, which ran on one process
            is_same = saved[name].get("crc32") == _host_crc32(x)
        if not is_same:
            raise CorruptFileError(f"{path} is damaged: {name} is not what was saved")


def _host_crc32(x: jax.Array) -> int:
    return zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)


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
