"""Provenance of results: command, config, commit, machine and versions."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from lm_jax import run
from lm_jax.config import Config


def command_of(module: str) -> str:
    """The command line of this process, whose main is in experiments.`module`."""
    return shlex.join(["python", "-m", f"experiments.{module}", *sys.argv[1:]])


def made_by(command: str, cfg: Config) -> dict[str, Any]:
    """The provenance that is stored with results."""
    return {
        "command": command,
        "config": cfg.to_dict(),
        "commit": commit(),
        "machine": machine(),
        "versions": run.versions(),
    }


def commit() -> str | None:
    """The commit of this code, with "-dirty" for local changes; None outside git."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        arguments = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
        done = subprocess.run(arguments, cwd=root, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode().strip()


def machine() -> dict[str, Any]:
    """CPU, number of cores and devices of this machine."""
    return {
        "cpu": _cpu(),
        "num_cores": os.cpu_count(),
        "devices": [str(device.device_kind) for device in jax.devices()],
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()
