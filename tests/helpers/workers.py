"""Processes that train together over the loopback interface, for tests."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from checkout import HELPERS, ROOT


def environment(num_devices: int) -> dict[str, str]:
    """Environment of a program on a CPU that stands for so many devices."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "PYTHONPATH": os.pathsep.join([str(HELPERS), str(ROOT)]),
    }


def start(
    arguments: Sequence[str], num_processes: int, num_devices: int
) -> list[subprocess.Popen]:
    """`python *arguments --coordinator=...`, once for each process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        subprocess.Popen(
            [
                sys.executable,
                *arguments,
                f"--coordinator=127.0.0.1:{port}",
                f"--num_processes={num_processes}",
                f"--process_id={index}",
            ],
            env=environment(num_devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(num_processes)
    ]


def finish(processes: Sequence[subprocess.Popen], timeout: float = 300.0) -> list[str]:
    """What each has printed; nothing outlives the test."""
    try:
        return [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
