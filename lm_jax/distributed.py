"""Synchronisation of several processes.

Every process runs the same program on its own devices. Process 0 alone writes metrics
and reports. With one process, all of this does nothing.
"""

from collections import deque
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")

LAG = 2  # steps until a flag is read, so that no device waits for it
TIMEOUT_SECONDS = 30  # without a heartbeat, after which a process counts as lost


def initialize(coordinator: str, num_processes: int, process_id: int) -> None:
    """Connects the processes of a run; call it before any other use of JAX.

    Args:
      coordinator: host:port of process 0; "" takes all three arguments from the
        cluster: `jax.distributed.initialize` supports Slurm, Open MPI, Kubernetes and
        TPU pods.
      num_processes, process_id: number of processes, and index of this one, from 0.

    Raises:
      ValueError: the processes did not find each other.
    """
    # Asynchronous programs that wait for other processes can use up the few threads of
    # a CPU and block each other.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(
            coordinator or None,
            num_processes if coordinator else None,
            process_id if coordinator else None,
            heartbeat_timeout_seconds=TIMEOUT_SECONDS,
            shutdown_timeout_seconds=TIMEOUT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the processes of this run did not find each other ({error}): outside a "
            "cluster that JAX knows, pass --coordinator=host:port, --num_processes and "
            "--process_id"
        ) from None


def is_process_zero() -> bool:
    """Whether this is process 0."""
    return jax.process_index() == 0


def process_zero_first(do: Callable[[], T]) -> T:
    """Calls do() in process 0, then in the others, which find the files it wrote."""
    if not is_process_zero():
        multihost_utils.sync_global_devices("process zero first")
    result = do()
    if is_process_zero():
        multihost_utils.sync_global_devices("process zero first")
    return result


def broadcast_from_zero(value: bool) -> bool:
    """The value that process 0 has."""
    return bool(multihost_utils.broadcast_one_to_all(np.array(value)))


def any_of(value: bool) -> bool:
    """Whether the value is true in any process."""
    return bool(np.any(multihost_utils.process_allgather(np.array(value))))


class SyncedFlags:
    """Logical or of flags over all processes, with the result at the same step in all.

    A signal may reach one process alone, and clocks differ, but all processes must take
    the same number of steps. The result of a step is returned LAG steps later.
    """

    def __init__(self, mesh: Mesh | None):
        self._is_alone = mesh is None or jax.process_count() == 1
        self._pending: deque[jax.Array] = deque()
        if mesh is not None and not self._is_alone:
            self._rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
            replicated = NamedSharding(mesh, PartitionSpec())
            self._any = jax.jit(lambda x: jnp.any(x, axis=0), out_shardings=replicated)

    def __call__(self, *local: bool) -> tuple[bool, ...]:
        """One result for each flag; every process must call this at each step."""
        if self._is_alone:
            return local
        flags = np.tile(np.array(local), (jax.local_device_count(), 1))
        rows = jax.make_array_from_process_local_data(self._rows, flags)
        self._pending.append(self._any(rows))
        if len(self._pending) <= LAG:
            return (False,) * len(local)
        return tuple(np.asarray(self._pending.popleft()).tolist())
