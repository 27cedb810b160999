"""Devices: the batch is spread over all of them, the state over those of one copy."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import (
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
)

from lm_jax.types import Params, Tokens

T = TypeVar("T")

DATA, FSDP = "data", "fsdp"


def make_mesh(
    batch_size: int, devices: Sequence[Any] | None = None, fsdp: int = 1
) -> Mesh:
    """(data, fsdp): copies of the state, and the devices that share one copy.

    Args:
      batch_size: rows that are processed at a time, over all devices: a microbatch.
      devices: default: every device of every process.
      fsdp: how many devices share a copy.

    Raises:
      ValueError: the rows or the copies cannot be dealt out evenly.
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % len(devices):
        raise ValueError(
            f"{batch_size} rows at a time (batch_size / accumulation) cannot be dealt "
            f"out evenly to {len(devices)} devices: make it a multiple of "
            f"{len(devices)}, or show JAX fewer devices"
        )
    if len(devices) % fsdp:
        raise ValueError(
            f"train.fsdp_devices={fsdp} does not divide {len(devices)} devices: choose "
            "a divisor"
        )
    # In the order of processes, whose rows follow one another in the batch.
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    places = np.array(ordered).reshape(-1, fsdp)
    return Mesh(places, (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def shard_batch(mesh: Mesh | None, x: np.ndarray) -> Tokens:
    """The whole batch as one array; `x` is the part that this process has read."""
    x = x.astype(np.int32)
    if mesh is None:
        return jax.device_put(x)
    rows = NamedSharding(mesh, PartitionSpec((DATA, FSDP)))
    return jax.make_array_from_process_local_data(rows, x)


def replicate(mesh: Mesh | None, state: T) -> T:
    """A copy of every array on every device."""
    if mesh is None:
        return jax.device_put(state)
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def shardings(mesh: Mesh | None, abstract: T) -> T:
    """Where each array of a state lies: its largest axis that can be is cut over
    "fsdp", so that parameters, moments and averages are cut alike."""
    if mesh is None:
        here = SingleDeviceSharding(jax.local_devices()[0])
        return jax.tree.map(lambda _: here, abstract)
    return jax.tree.map(lambda x: NamedSharding(mesh, _spec(x, mesh)), abstract)


def _spec(x: jax.ShapeDtypeStruct, mesh: Mesh) -> PartitionSpec:
    places = mesh.shape[FSDP]
    axes = [axis for axis, size in enumerate(x.shape) if size % places == 0]
    if places == 1 or not axes:
        return PartitionSpec()
    largest = max(axes, key=lambda axis: x.shape[axis])
    return PartitionSpec(*[None] * largest, FSDP)


def gathered(params: Params) -> Params:
    """The whole parameters on a device of this process, wherever they lie."""
    return jax.tree.map(_gathered, params)


def _gathered(x: jax.Array) -> jax.Array:
    if not x.is_fully_replicated:
        everywhere: Sharding = NamedSharding(x.sharding.mesh, PartitionSpec())  # pyright: ignore[reportAttributeAccessIssue]
        x = jax.device_put(x, everywhere)
    return x if x.is_fully_addressable else x.addressable_data(0)
