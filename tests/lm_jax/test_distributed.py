"""Topologies: devices, copies, processes and microbatches change nothing that is drawn.

python tests/test_distributed.py WORKDIR MODEL --fsdp=... is a process of such a run.
"""

import argparse
import functools
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workers
from checkout import ROOT
from fake_models import LENGTH, VOCAB, bigram, windows
from tiny_configs import flags_of, toy

import ar_jax
import mdlm_jax
from lm_jax import checkpoint, distributed
from lm_jax.config import Config, ModelConfig, OptimizerConfig, TrainConfig
from lm_jax.data.batches import train_batches
from lm_jax.keys import row_keys
from lm_jax.sharding import make_mesh
from lm_jax.training import hooks, loop
from lm_jax.types import MASK, PAD, Rows
from mdlm_jax.forward_process import mask_tokens, stratified_times

BATCH = 16

# name: devices, devices that share a copy, microbatches
TOPOLOGIES = {
    "8 devices": (8, 1, 1),
    "2 copies of 4 devices": (8, 4, 1),
    "1 copy of 8 devices": (8, 8, 1),
    "2 microbatches": (1, 1, 2),
    "2 microbatches, 4 copies of 2": (8, 2, 2),
}
FAST = [("masks", "8 devices"), ("masks", "2 microbatches, 4 copies of 2")]


def masks(cfg):
    """Its loss is a sum of integers that names every masked position and its token."""

    def token_nll(params, x, key, rows=None):
        rows = rows or Rows.of(x)
        key_t, key_z = jax.random.split(key)
        t = stratified_times(key_t, rows)
        z_t = mask_tokens(row_keys(key_z, rows.index), x, 1.0 - t)
        places = (rows.index[:, None] * LENGTH + jnp.arange(LENGTH)[None]) * VOCAB + x
        nats = jnp.where((z_t == MASK) & (x != PAD), places, 0).astype(jnp.float32)
        return nats + 0.0 * jnp.sum(params["bias"])

    return bigram(VOCAB + 1)._replace(token_nll=token_nll)


MODELS = {
    "ar": ar_jax.language_model,
    "mdlm": mdlm_jax.language_model,
    "masks": masks,
}


def config(**options):
    values: dict[str, Any] = {
        "num_steps": 8,
        "batch_size": BATCH,
        "log_every": 1,
        "eval_every": 4,
        "save_every": 2,
        "ema": 0.5,
    } | options
    return Config(
        model=ModelConfig(
            length=LENGTH,
            vocab_size=VOCAB,
            width=16,
            num_layers=1,
            num_heads=2,
            ffn_width=32,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2),
        train=TrainConfig(**values),
    )


def run(workdir, model, devices=1, fsdp=1, accumulation=1, stop_after=None):
    """Trains on so many devices of all processes; returns the state."""
    steps = itertools.count(1)
    cfg = config(accumulation=accumulation, fsdp_devices=fsdp)
    used = jax.devices()[:devices]
    return loop.train(
        MODELS[model](cfg),
        cfg,
        train_batches(windows(), BATCH, 0, jax.process_index(), jax.process_count()),
        workdir,
        cfg.train.num_steps,
        hooks=[hooks.validate(cfg.train.eval_every, score)],
        mesh=None if devices == 1 else make_mesh(BATCH // accumulation, used, fsdp),
        should_stop=lambda: next(steps) == stop_after,
    )


def score(params):
    return {"nats_per_token": float(jnp.sum(params_sum(params)))}


def params_sum(params):
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))


def losses(workdir):
    """Of every step, as they are written."""
    lines = map(json.loads, (Path(workdir) / "metrics.jsonl").read_text().splitlines())
    return [line["nats_per_token"] for line in lines if line["split"] == "train"]


def position(workdir):
    """Of the data, in the newest checkpoint."""
    directory = Path(workdir) / "checkpoints"
    step = checkpoint.latest_step(directory)
    manifest = directory / str(step) / "manifest" / "metadata"
    return json.loads(manifest.read_text())["position"]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """The losses of a model's run on one device."""

    @functools.cache
    def losses_of(model):
        workdir = tmp_path_factory.mktemp(model)
        run(workdir, model)
        return losses(workdir)

    return losses_of


def assert_same(model, found, expected):
    """To the bit where sums of integers say what was drawn; else up to rounding."""
    assert len(found) == len(expected) == 8
    if model == "masks":
        assert found == expected and len(set(found)) == 8
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "model, topology",
    [
        pytest.param(
            *pair, marks=[] if pair in FAST else pytest.mark.slow, id=", ".join(pair)
        )
        for pair in itertools.product(sorted(MODELS), TOPOLOGIES)
    ],
)
def test_the_same_run_on_any_devices(one_device, model, topology, tmp_path):
    """Batches and masks to the bit, losses up to the order of sums."""
    run(tmp_path, model, *TOPOLOGIES[topology])
    assert_same(model, losses(tmp_path), one_device(model))


def test_devices_share_a_copy(tmp_path):
    """Each of four holds a quarter of the parameters, the moments and the average that
    one of the axes divides, after a step as before; and two copies hold the same."""
    state = run(tmp_path, "masks", 8, 4, stop_after=2)
    for name, x in jax.tree_util.tree_leaves_with_path(state):
        axes = [size for size in x.shape if size % 4 == 0]
        part = x.size // 4 if axes else x.size
        sizes = {shard.data.size for shard in x.addressable_shards}
        assert sizes == {part}, name
        places = {}
        for shard in x.addressable_shards:
            places.setdefault(str(shard.index), []).append(np.array(shard.data))
        for first, *others in places.values():
            assert others and all(np.array_equal(first, other) for other in others)


def test_copies_that_devices_cannot_share_are_refused():
    with pytest.raises(ValueError, match="fsdp_devices=3 does not divide 8 devices"):
        make_mesh(8, fsdp=3)


def test_an_agreement_of_one_process_is_its_own_answer():
    """Without delay: the loop of one process stops after the step that it is told."""
    agree = distributed.SyncedFlags(make_mesh(8))
    assert agree(True, False) == (True, False)


def together(workdir, model, processes=2, devices=2, **options):
    """Trains in several processes; returns what they printed."""
    flags = [f"--{name}={value}" for name, value in options.items()]
    script = [str(Path(__file__)), str(workdir), model, *flags]
    started = workers.start(script, processes, devices)
    printed = workers.finish(started)
    assert [process.returncode for process in started] == [0] * processes, printed
    return printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, fsdp, accumulation",
    [("masks", 1, 1), ("masks", 2, 2), ("mdlm", 4, 1), ("ar", 2, 2)],
)
def test_the_same_run_in_two_processes(one_device, model, fsdp, accumulation, tmp_path):
    """Two processes of two devices see the batches and masks of one device. Where four
    share a copy, parameters are cut over both processes."""
    together(tmp_path, model, fsdp=fsdp, accumulation=accumulation)
    assert_same(model, losses(tmp_path), one_device(model))
    files = {path.name.split(".")[0] for path in tmp_path.iterdir()}
    assert files == {"checkpoints", "metrics", "training", "events"}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ar", "mdlm"])
def test_a_checkpoint_of_one_topology_resumes_on_another(model, tmp_path):
    """1 device -> 8 devices -> 2 processes x 2 devices, cut -> 1 device: the losses are
    those of a run that stayed where it was, and so is the position in the data."""
    run(tmp_path / "straight", model)
    moved = tmp_path / "moved"
    run(moved, model, stop_after=2)
    run(moved, model, 8, 4, stop_after=2)
    together(moved, model, fsdp=2, stop_after=1)
    stopped = checkpoint.latest_step(moved / "checkpoints")
    assert stopped == 5 + distributed.LAG
    run(moved, model)
    assert_same(model, losses(moved), losses(tmp_path / "straight"))
    assert position(moved) == position(tmp_path / "straight") == {"next_index": 8}


def train_command(cfg, workdir):
    config = ROOT / "experiments" / "configs" / "tiny.py"
    module = ["-m", "mdlm_jax.train", f"--config={config}"]
    return [*module, f"--workdir={workdir}", *flags_of(cfg)]


def long_toy(cache_dir):
    """The toy run, with more steps than anybody waits for."""
    cfg = toy(cache_dir).to_dict()
    cfg["train"] |= {"num_steps": 100_000, "eval_every": 100_000, "keep": 1}
    return Config.from_dict(cfg)


def wait_for_step(workdir, step, processes):
    deadline = time.monotonic() + 180
    while (checkpoint.latest_step(workdir / "checkpoints") or 0) < step:
        assert time.monotonic() < deadline, "no checkpoint in time"
        assert all(process.poll() is None for process in processes), workers.finish(
            processes
        )
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others(victim, cache_dir, tmp_path):
    """The other one notices, fails in bounded time, and what both have saved is whole:
    the same command stops cleanly later on, asked by a signal to one process alone."""
    command = train_command(long_toy(cache_dir), tmp_path / "run")
    processes = workers.start(command, 2, 2)
    try:
        wait_for_step(tmp_path / "run", 4, processes)
        processes[victim].kill()
        limit = 3 * distributed.TIMEOUT_SECONDS
        assert processes[1 - victim].wait(timeout=limit) != 0
    finally:
        workers.finish(processes)
    step = checkpoint.latest_step(tmp_path / "run" / "checkpoints")
    assert step is not None
    again = workers.start(command, 2, 2)
    try:
        wait_for_step(tmp_path / "run", step + 4, again)
        again[1 - victim].send_signal(signal.SIGTERM)
        printed = workers.finish(again, timeout=120)
    finally:
        workers.finish(again)
    assert [process.returncode for process in again] == [0, 0], printed
    assert all("stopped and saved" in text for text in printed)


@pytest.mark.slow
def test_launch_local_completes_a_comparison(cache_dir, tmp_path):
    """Both families are trained by two processes, and the first one reports."""
    command = [str(ROOT / "experiments" / "launch_local.sh"), "2"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path}", *flags_of(toy(cache_dir))],
        env=workers.environment(2) | {"PYTHON": sys.executable},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "report.html").exists()
    results = json.loads((tmp_path / "results.json").read_text())
    for part in results["families"].values():
        assert part["training"]["num_steps"] == 12
        assert len(part["samples"]) == 6


@pytest.mark.slow
def test_launch_local_says_how_it_is_called():
    launch = str(ROOT / "experiments" / "launch_local.sh")
    done = subprocess.run([launch, "many"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "usage" in done.stderr


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("model")
    parser.add_argument("--coordinator")
    for name in ("num_processes", "process_id", "fsdp", "accumulation", "stop_after"):
        parser.add_argument(f"--{name}", type=int)
    given = parser.parse_args()
    distributed.initialize(given.coordinator, given.num_processes, given.process_id)
    run(
        given.workdir,
        given.model,
        jax.device_count(),
        given.fsdp or 1,
        given.accumulation or 1,
        given.stop_after,
    )


if __name__ == "__main__":
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # grain reads flags
    main()
