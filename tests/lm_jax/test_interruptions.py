"""Locks, signals and disks: every end says what is left and how to go on."""

import os
import signal
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
import workers
from fake_models import FAMILY
from tiny_configs import toy

from lm_jax import checkpoint, files
from lm_jax.run import train

# tensorstore's callbacks outlive the event loop of a write that failed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


# The lock.


def test_a_second_writer_is_told_who_holds_the_directory(tmp_path):
    """In this process as in any other; and afterwards it may come."""
    with files.only_writer(tmp_path):
        with pytest.raises(
            ValueError, match=rf"written by process {os.getpid()} on .* another --work"
        ):
            with files.only_writer(tmp_path):
                raise AssertionError("two writers")
    with files.only_writer(tmp_path):
        pass


def test_a_dead_owner_locks_nobody_out(tmp_path):
    """kill -9 releases the lock, as the kernel holds it and not the file."""
    code = (
        "import sys, time, pathlib; from lm_jax import files\n"
        "with files.only_writer(pathlib.Path(sys.argv[1])): print('held', flush=True); "
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env=workers.environment(1),
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout and owner.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"written by process {owner.pid} on"):
            with files.only_writer(tmp_path):
                raise AssertionError("two writers")
        owner.kill()
        owner.wait()
        with files.only_writer(tmp_path):
            assert str(os.getpid()) in (tmp_path / files.LOCK).read_text()


def test_a_run_is_locked_while_it_trains(cache_dir, tmp_path):
    """Seen from within: its own second call is refused."""
    refused = []

    def call_again():
        with pytest.raises(ValueError, match="is being written by process"):
            train(FAMILY, toy(cache_dir), tmp_path / "run")
        refused.append(True)
        return True

    assert not train(FAMILY, toy(cache_dir), tmp_path / "run", should_stop=call_again)
    assert refused


# Signals.

SIGNALLED = """
import sys, time
from lm_jax import signals
if sys.argv[1] == "training":
    with signals.finish_step() as should_stop:
        print("ready", flush=True)
        while not should_stop():
            time.sleep(0.01)
        print("saving", flush=True)
        time.sleep(float(sys.argv[2]))
        print("saved", flush=True)
else:
    signals.leave_on_signal()
    print("ready", flush=True)
    time.sleep(60)
"""


def signalled(phase, *numbers, seconds=0.5):
    """Status and output of a program that gets these signals, one after the other."""
    with subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, phase, str(seconds)],
        env=workers.environment(1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout and program.stdout.readline() == "ready\n"
        for number in numbers:
            program.send_signal(number)
            time.sleep(0.2)
        out, err = program.communicate(timeout=30)
    return program.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_training_save(number):
    status, out, err = signalled("training", number)
    assert (status, out) == (0, "saving\nsaved\n")
    assert "interrupt again to stop at once" in err


def test_a_second_interrupt_stops_at_once():
    status, out, _ = signalled("training", signal.SIGINT, signal.SIGINT, seconds=30)
    assert (status, out) == (-signal.SIGINT, "saving\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_is_not_training_at_once(number):
    status, _, err = signalled("sampling", number)
    assert status == 0 and "run again to go on" in err and "Traceback" not in err


# Disks.


@pytest.fixture
def small_disk(tmp_path):
    """Some megabytes that a test may fill; a checkpoint takes four of them."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the right to mount a small tmpfs: {error}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def at_step(step, do, run):
    """A should_stop that does something after a step, when the save before it is whole,
    and never stops."""
    count = iter(range(1, 10_000))

    def should_stop():
        if next(count) == step:
            deadline = time.monotonic() + 60.0
            while checkpoint.latest_step(run / "checkpoints") is None:
                assert time.monotonic() < deadline, "no save was ever whole"
                time.sleep(0.01)
            do()
        return False

    return should_stop


def fill(disk):
    with pytest.raises(OSError), (disk / "filling").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()


def test_a_full_disk_ends_the_run_and_spares_the_checkpoint(
    small_disk, cache_dir, tmp_path
):
    """One clear error. With room again the run ends as one that was never disturbed."""
    cfg, run = toy(cache_dir), small_disk / "run"
    with pytest.raises(
        OSError,
        match=r"cannot read or write .*No space left.*the checkpoint of step \d+ is",
    ):
        stop = at_step(5, lambda: fill(small_disk), run)
        train(FAMILY, cfg, run, should_stop=stop)
    (small_disk / "filling").unlink()
    assert train(FAMILY, cfg, run)
    assert train(FAMILY, cfg, tmp_path / "straight")
    chex.assert_trees_all_equal(
        *(
            checkpoint.restore_params(p / "checkpoints")
            for p in (run, tmp_path / "straight")
        )
    )


def test_a_directory_that_vanishes_ends_the_run(cache_dir, tmp_path):
    """Not silently, into files that nobody will ever see."""
    run = tmp_path / "run"

    def vanish():
        run.rename(tmp_path / "elsewhere")

    with pytest.raises(
        OSError, match="cannot read or write .*run .*bring the disk back"
    ):
        train(FAMILY, toy(cache_dir), run, should_stop=at_step(5, vanish, run))
    params = checkpoint.restore_params(tmp_path / "elsewhere" / "checkpoints").params
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


def test_a_read_only_directory_is_refused(small_disk, cache_dir):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="cannot read or write .*Read-only file system"):
        train(FAMILY, toy(cache_dir), small_disk / "run")
