"""Disks that fail: no operation on a file, whoever asks for it, costs a sound file."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import workers
from checkout import HELPERS

ERRNOS = ("EIO", "EACCES", "ENOENT", "EMFILE", "ESTALE")
COMMANDS = ("train", "resume", "sample", "evaluate", "compare")


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The library that stands between every program and its files."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler, to stand before libc's functions")
    path = tmp_path_factory.mktemp("faults") / "fault_injection.so"
    source = HELPERS / "fault_injection.c"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", path, source, "-ldl"]
    subprocess.run(command, check=True)
    return path


def run(library, cache_dir, command, errno, every, first=1):
    """Every so many operations of a command fail in turn; what came of that."""
    done = subprocess.run(
        [sys.executable, HELPERS / "fault_runs.py", command, f"--errno={errno}"]
        + [f"--every={every}", f"--first={first}", f"--cache_dir={cache_dir}"],
        env=workers.environment(1) | {"LD_PRELOAD": os.fspath(library)},
        capture_output=True,
        text=True,
        check=False,
        timeout=3_000,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("command, errno", [*zip(COMMANDS, ERRNOS, strict=True)])
def test_any_file_operation_may_fail(library, tmp_path, command, errno):
    """A few operations of each command, each failing once with one error: the call
    gets through or ends in a sentence, every checkpoint stays, and the same call
    without the fault ends as if there had been none, bit for bit."""
    every = {"sample": 29, "evaluate": 23}.get(command, 151)
    found = run(library, tmp_path, command, errno, every, first=every // 2)
    assert sum(found["failed"].values()) >= 3
    assert sum(found["ended"].values()) == sum(found["failed"].values())


@pytest.mark.slow
@pytest.mark.parametrize("errno", ERRNOS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_file_operation_may_fail(library, tmp_path, command, errno):
    """All of them, in turn, until the command gets through.

    How often a library looks for a file depends on the load: a call may have fewer
    operations than the one that was counted.
    """
    found = run(library, tmp_path, command, errno, every=1)
    assert sum(found["failed"].values()) >= 0.9 * found["operations"]
