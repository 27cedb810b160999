"""Device mesh and shardings: data parallelism, with the state sharded over "fsdp"."""

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
    """Mesh (data, fsdp): copies of the state x devices that share one copy.

    Args:
      batch_size: number of rows of a microbatch, over all devices.
      devices: devices of the mesh; default: all devices of all processes.
      fsdp: number of devices that share one copy of the state.

    Raises:
      ValueError: the number of devices does not divide the rows, or fsdp does not
        divide the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % len(devices):
        raise ValueError(
            f"{batch_size} rows at a time (batch_size / accumulation) cannot be "
            f"divided evenly among {len(devices)} devices: make it a multiple of "
            f"{len(devices)}, or make fewer devices visible to JAX"
        )
    if len(devices) % fsdp:
        raise ValueError(
            f"TrainConfig.fsdp_devices={fsdp} does not divide {len(devices)} devices: "
            "choose a divisor"
        )
    # Ordered by process, as the rows of a process are contiguous in the batch.
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    grid = np.array(ordered).reshape(-1, fsdp)
    return Mesh(grid, (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def shard_batch(mesh: Mesh | None, x: np.ndarray) -> Tokens:
    """The whole batch as one sharded array; `x` has the rows of this process."""
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
    """Sharding of each array of a state: its largest divisible axis over "fsdp".

    Parameters, optimizer moments and averages are therefore sharded alike.
    """
    if mesh is None:
        one_device = SingleDeviceSharding(jax.local_devices()[0])
        return jax.tree.map(lambda _: one_device, abstract)
    return jax.tree.map(lambda x: NamedSharding(mesh, _spec(x, mesh)), abstract)


def _spec(x: jax.ShapeDtypeStruct, mesh: Mesh) -> PartitionSpec:
    num_shards = mesh.shape[FSDP]
    axes = [axis for axis, size in enumerate(x.shape) if size % num_shards == 0]
    if num_shards == 1 or not axes:
        return PartitionSpec()
    largest = max(axes, key=lambda axis: x.shape[axis])
    return PartitionSpec(*[None] * largest, FSDP)


def gathered(params: Params) -> Params:
    """All parameters, unsharded, on one device of this process."""
    return jax.tree.map(_gathered, params)


def _gathered(x: jax.Array) -> jax.Array:
    if not x.is_fully_replicated:
        replicated: Sharding = NamedSharding(x.sharding.mesh, PartitionSpec())  # pyright: ignore[reportAttributeAccessIssue]
        x = jax.device_put(x, replicated)
    return x if x.is_fully_addressable else x.addressable_data(0)
