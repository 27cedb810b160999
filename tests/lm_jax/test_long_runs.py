"""Long runs: killed again and again, or simply long.

python tests/test_long_runs.py kill|soak ... is what these tests start.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
import train_helpers
import workers
from tiny_configs import FAMILIES, toy

from lm_jax import checkpoint
from lm_jax.config import Config
from lm_jax.run import train

NUM_KILLS = 20
NUM_STEPS = 2_000
SAVE_EVERY = 10


def kill_config(cache_dir):
    """Many saves: at any moment one is probably going on."""
    cfg = toy(Path(cache_dir)).to_dict()
    cfg["train"] |= {"num_steps": 400, "eval_every": 50, "save_every": 2, "ema": 0.5}
    return Config.from_dict(cfg)


def kill_often(family, cache_dir, workdir, seed):
    """Forks a child that trains, and kills it at a random moment; twenty times. Then
    one goes on to the end. Prints at how many different steps they went on."""
    rng = np.random.default_rng(int(seed))
    run, steps = Path(workdir), set()
    checkpoints = run / "checkpoints"
    for attempt in range(NUM_KILLS + 1):
        child = os.fork()  # before JAX starts anything: imports are paid for once
        if not child:
            train(FAMILIES[family], kill_config(cache_dir), run)
            os._exit(0)
        if attempt < NUM_KILLS:
            seen = _saves(checkpoints)
            deadline = time.monotonic() + 60
            while not _saves(checkpoints) - seen and time.monotonic() < deadline:
                if os.waitpid(child, os.WNOHANG)[0]:
                    break
                time.sleep(0.002)
            else:
                time.sleep(float(rng.uniform(0.0, 0.5)))
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            steps.add(checkpoint.latest_step(checkpoints))
        else:
            _, status = os.waitpid(child, 0)
            assert status == 0, status
    print(len(steps))


def _saves(directory):
    """What has been begun or finished in the directory."""
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_twenty_kills_change_nothing(family, cache_dir, tmp_path):
    """kill -9 at 20 random moments, during saves included: the parameters are, bit for
    bit, those of a run that nobody disturbed."""
    out = start("kill", family, cache_dir, tmp_path / "killed", 0)
    assert int(out.split()[-1]) >= NUM_KILLS // 2  # it was killed all along the run
    start("train", family, cache_dir, tmp_path / "straight")
    found, expected = (
        checkpoint.restore_params(tmp_path / name / "checkpoints")
        for name in ("killed", "straight")
    )
    chex.assert_trees_all_equal(found, expected)


def soak(workdir):
    """2,000 steps with 200 saves; prints memory in MiB, open files, files on disk."""
    seen = []

    def look(step, x):
        if step in (NUM_STEPS // 4, NUM_STEPS):
            seen.append(
                {
                    "mebibytes": _resident_mebibytes(),
                    "open_files": len(os.listdir("/proc/self/fd")),
                    "files": sum(1 for path in Path(workdir).rglob("*")),
                }
            )
        return x

    train_helpers.run(
        Path(workdir),
        x=train_helpers.changed_batches(look),
        num_steps=NUM_STEPS,
        save_every=SAVE_EVERY,
        eval_every=100,
        log_every=50,
    )
    print(json.dumps(seen))


def _resident_mebibytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_two_thousand_steps_need_no_more_than_five_hundred(tmp_path):
    """Memory flat, files bounded: on the disk as in the process."""
    early, late = json.loads(start("soak", tmp_path / "run").splitlines()[-1])
    assert late["mebibytes"] - early["mebibytes"] < 32
    assert late["open_files"] <= early["open_files"] + 8
    assert late["files"] <= early["files"] + 64  # at most a save in progress
    shutil.rmtree(tmp_path / "run")


def start(*arguments):
    """This file as a program; returns what it prints."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        env=workers.environment(1),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


if __name__ == "__main__":
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # grain reads flags
    what, *rest = sys.argv[1:]
    if what != "soak":  # twenty-two processes compile the same programs
        jax.config.update("jax_compilation_cache_dir", f"{rest[1]}/jax")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if what == "train":
        train(FAMILIES[rest[0]], kill_config(rest[1]), rest[2])
    else:
        {"kill": kill_often, "soak": soak}[what](*rest)
