"""Several processes that work as one: who leads, and how they agree.

Every process runs the same program on its own devices. Process 0 leads: it alone
writes metrics and reports. With one process, all of this does nothing.
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

LAG = 2  # steps until an answer is read, so that no device waits for it
TIMEOUT_SECONDS = 30  # after which a process that is not heard of is lost


def initialize(coordinator: str, num_processes: int, process_id: int) -> None:
    """Joins the processes of a run, before anything else is asked of JAX.

    Args:
      coordinator: host:port of process 0; "" asks the cluster for all three, as
        `jax.distributed.initialize` knows Slurm, Open MPI, Kubernetes and TPU pods.
      num_processes, process_id: how many there are, and which one this is, from 0.

    Raises:
      ValueError: the processes did not find each other.
    """
    # Programs in flight that wait for other processes can starve each other of the few
    # threads of a CPU.
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
    """do() in every process, once process 0 has done it: it finds what that made."""
    if not is_process_zero():
        multihost_utils.sync_global_devices("leader first")
    done = do()
    if is_process_zero():
        multihost_utils.sync_global_devices("leader first")
    return done


def broadcast_from_zero(value: bool) -> bool:
    """What process 0 says."""
    return bool(multihost_utils.broadcast_one_to_all(np.array(value)))


def any_of(value: bool) -> bool:
    """Whether any process says so."""
    return bool(np.any(multihost_utils.process_allgather(np.array(value))))


class SyncedFlags:
    """What any process asks for, answered in all of them at the same step.

    A signal may reach one process alone, and clocks differ; but all must take the same
    steps. So the question travels with the steps, and is answered LAG steps later.
    """

    def __init__(self, mesh: Mesh | None):
        self._is_alone = mesh is None or jax.process_count() == 1
        self._pending: deque[jax.Array] = deque()
        if mesh is not None and not self._is_alone:
            self._rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
            everywhere = NamedSharding(mesh, PartitionSpec())
            self._any = jax.jit(lambda x: jnp.any(x, axis=0), out_shardings=everywhere)

    def __call__(self, *asked: bool) -> tuple[bool, ...]:
        """One answer for each question, which every process must ask at each step."""
        if self._is_alone:
            return asked
        flags = np.tile(np.array(asked), (jax.local_device_count(), 1))
        rows = jax.make_array_from_process_local_data(self._rows, flags)
        self._pending.append(self._any(rows))
        if len(self._pending) <= LAG:
            return (False,) * len(asked)
        return tuple(np.asarray(self._pending.popleft()).tolist())
