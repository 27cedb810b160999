"""Faults: every end says what happened, what is left, and how to go on."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_loop
import workers
from stand_ins import bigram, windows
from test_compare import toy

from lm_jax import run_directory, seals
from lm_jax.data import corpora, dataset
from lm_jax.data.batches import train_batches, window_numbers
from lm_jax.data.tokenizer import Tokenizer
from lm_jax.training import checkpoint, faults, lock
from lm_jax.training.checksums import checksum
from lm_jax.training.run import train
from lm_jax.training.sharding import make_mesh, shardings
from lm_jax.training.train_step import init_state, make_train_step

# tensorstore's callbacks outlive the event loop of a write that failed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def table(cfg):
    """The smallest family: its parameters are a table of bigrams."""

    def log_likelihood(params, x, key, num_draws):
        nats = bigram(cfg.model.vocab_size).token_nll(params, x, key)
        return -nats.sum(axis=1), jnp.zeros(len(x))

    return bigram(cfg.model.vocab_size)._replace(log_likelihood=log_likelihood)


def flip_a_bit(path):
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    path.write_bytes(octets)


# Checksums of arrays.


def test_a_checksum_knows_no_sharding():
    """One device, eight, and two copies cut over four give the same number."""
    x = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    expected = int(checksum(jnp.asarray(x)))
    for fsdp in (1, 4, 8):
        mesh = make_mesh(8, fsdp=fsdp)
        placed = jax.device_put(x, shardings(mesh, jax.eval_shape(lambda: x)))
        assert int(checksum(placed)) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_a_checksum_sees_every_bit_and_every_place(dtype):
    """A change of any one element, and any exchange of two, changes it."""
    x = jnp.arange(12).astype(dtype).reshape(3, 4) % 2
    numbers = {int(checksum(x))}
    for i in range(12):
        row, column = divmod(i, 4)
        numbers.add(int(checksum(x.at[row, column].set(1 - x[row, column]))))
    assert len(numbers) == 13
    assert int(checksum(x[:, ::-1])) not in numbers


# Damage beside the checkpoints.


@pytest.fixture
def run_path(cache_dir, tmp_path):
    cfg = toy(cache_dir)
    run_directory.create(tmp_path / "run", "ar", cfg, dataset.load(cfg))
    return tmp_path / "run"


@pytest.mark.parametrize("damage", [flip_a_bit, Path.unlink])
@pytest.mark.parametrize("name", run_directory.SEALED)
def test_a_damaged_file_of_a_run_is_named(run_path, name, damage):
    """Also where its text is still valid: "seed": 0 may have been 2."""
    run_directory.open_run(run_path, "ar")
    damage(run_path / name)
    with pytest.raises(ValueError, match=rf"{name} is damaged: .* another --workdir"):
        run_directory.open_run(run_path, "ar")


def test_a_changed_record_of_a_run_is_named(run_path):
    text = (run_path / "run.json").read_text()
    (run_path / "run.json").write_text(text.replace("storyworld", "storyw0rld"))
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        run_directory.open_run(run_path, "ar")


def test_a_seal_never_looks_beyond_its_directory(tmp_path):
    """A record from elsewhere cannot make us read what lies outside."""
    (tmp_path / "run").mkdir()
    (tmp_path / "secret").write_text("x")
    sealed = seals.seal({}, [tmp_path / "secret"])
    sealed[seals.SEAL]["../secret"] = sealed[seals.SEAL].pop("secret")
    with pytest.raises(ValueError, match="damaged"):
        seals.require_whole(tmp_path / "run" / "run.json", sealed)


def test_a_run_of_the_first_version_opens(run_path):
    """It has no seal."""
    record = json.loads((run_path / "run.json").read_text())
    del record[seals.SEAL]
    (run_path / "run.json").write_text(json.dumps(record))
    assert run_directory.open_run(run_path, "ar").family == "ar"


@pytest.mark.parametrize(
    "pattern", ["corpora/**/*array_record*", "tokenizers/*.model", "windows/*.npy"]
)
def test_damage_in_the_cache_is_mended(pattern, tmp_path):
    """One bit flips in a file: it is made again, and the data are the same."""
    cfg = toy(tmp_path)
    before = dataset.load(cfg)
    expected = (
        before.train.copy(),
        before.tokenizer.model_proto,
        [*before.train_stories],
    )
    file = max(tmp_path.glob(pattern), key=lambda path: path.stat().st_size)
    whole = file.read_bytes()
    flip_a_bit(file)
    after = dataset.load(cfg)
    np.testing.assert_array_equal(after.train, expected[0])
    assert after.tokenizer.model_proto == expected[1]
    assert [*after.train_stories] == expected[2]
    assert len(file.read_bytes() if file.exists() else whole) == len(whole)
    corpora.prepare(cfg.data)


def test_a_cached_tokenizer_of_other_pieces_is_mended(tmp_path):
    """A changed letter leaves a valid tokenizer, which is not the one that was made."""
    cfg = toy(tmp_path)
    expected = dataset.load(cfg).tokenizer.model_proto
    (path,) = tmp_path.glob("tokenizers/*.model")
    changed = expected.replace(b"once", b"onca", 1)
    assert changed != expected and Tokenizer(changed)
    path.write_bytes(changed)
    assert dataset.load(cfg).tokenizer.model_proto == expected


# Losses that are not finite, and losses that jump.


def poisoned():
    """The bigram's loss, which is not a number on windows of ones."""

    def token_nll(params, x, key, rows=None):
        nats = bigram().token_nll(params, x, key, rows)
        return jnp.where(jnp.any(jnp.all(x == 1, axis=1)), jnp.nan, nats)

    return bigram()._replace(token_nll=token_nll)


def poison(*steps):
    return test_loop.changed_batches(
        lambda step, x: np.ones_like(x) if step in steps else x
    )


def test_steps_without_a_finite_loss_may_be_left_out(tmp_path, caplog):
    """They change nothing, they are counted and named, and the run goes on. It resumes
    with its count."""
    test_loop.run(tmp_path, lm=poisoned(), x=poison(3, 5), max_skipped=2, stop_after=3)
    state, _ = test_loop.run(tmp_path, lm=poisoned(), x=poison(3, 5), max_skipped=2)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))
    assert json.loads((tmp_path / "training.json").read_text())["skipped_steps"] == 2
    for step in (3, 5):
        assert f"left out: loss at step {step}, on batch {step - 1}" in caplog.text


def test_more_than_so_many_steps_are_not_left_out(tmp_path):
    with pytest.raises(faults.NonFiniteError, match="loss at step 5"):
        test_loop.run(tmp_path, lm=poisoned(), x=poison(3, 5), max_skipped=1)


def test_a_skipped_step_leaves_the_state_as_it_was():
    """Parameters, moments and average, bit for bit; only the step counts on."""
    tx, x = optax.adam(0.1), jnp.asarray(windows(16), jnp.int32)
    step_fn = make_train_step(poisoned(), tx, jax.random.key(1), ema=0.9, skips=True)
    state, _ = step_fn(init_state(bigram(), tx, jax.random.key(0), ema=True), x)
    before = jax.tree.map(np.array, state)
    after, metrics = step_fn(state, jnp.ones_like(x))
    assert np.isnan(metrics["loss"]) and after.step == before.step + 1
    for part in ("params", "opt_state", "ema"):
        chex.assert_trees_all_equal(getattr(after, part), getattr(before, part))


def test_the_dump_of_a_fault_reproduces_it(cache_dir, tmp_path):
    """fault_<step> holds the very windows, their numbers and where to begin; the same
    command fails again in the same step, on the same batch."""
    cfg = toy(cache_dir)
    numbers = window_numbers(len(dataset.load(cfg).train), 8, cfg.seed)[6]
    bad = int(np.asarray(numbers)[2])
    marked = dataset.load(cfg).train[bad]

    def family(cfg):
        lm = table(cfg)

        def token_nll(params, x, key, rows=None):
            is_bad = jnp.any(jnp.all(x == jnp.int32(marked)[None], axis=1))
            return jnp.where(is_bad, jnp.inf, lm.token_nll(params, x, key, rows))

        return lm._replace(token_nll=token_nll)

    messages = []
    for _ in range(2):
        with pytest.raises(faults.NonFiniteError, match="loss at step") as caught:
            train(family, cfg, tmp_path / "run")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    (path,) = (tmp_path / "run").glob("fault_*")
    record = json.loads((path / "fault.json").read_text())
    x = np.load(path / "batch.npy")
    assert record["step"] <= 7 and bad in record["window_numbers"]
    np.testing.assert_array_equal(
        x, dataset.load(cfg).train[np.array(record["window_numbers"])]
    )
    assert str(path) in messages[0] and record["checkpoint"] == 6
    batches = train_batches(dataset.load(cfg).train, 8, cfg.seed)
    for _ in range(record["step"]):
        read = next(batches)
    np.testing.assert_array_equal(read, x)


def test_only_a_jump_of_the_loss_is_a_spike():
    """Noise around a falling loss is none; a loss beyond all of the last twenty is."""
    rng, watch = np.random.default_rng(0), faults.SpikeWatch()
    losses = 3.0 + 2.0 * np.exp(-np.arange(200) / 40) + rng.normal(0, 0.02, 200)
    losses = losses.tolist()
    assert not any([watch.sees(loss) for loss in losses])
    assert watch.sees(losses[-1] + 0.5)


def test_a_spike_is_told(tmp_path, caplog):
    caplog.set_level(logging.WARNING)

    def token_nll(params, x, key, rows=None):
        nats = bigram().token_nll(params, x, key, rows)
        return jnp.where(jnp.all(x == 1), 100.0 + 0.0 * nats, nats)

    lm = bigram()._replace(token_nll=token_nll)
    test_loop.run(tmp_path, lm=lm, x=poison(28), num_steps=30, log_every=1)
    assert "jumped to 100.0" in caplog.text and "step 28" in caplog.text
    assert caplog.text.count("jumped") == 1


# The lock.


def test_a_second_writer_is_told_who_holds_the_directory(tmp_path):
    """In this process as in any other; and afterwards it may come."""
    with lock.only_writer(tmp_path):
        with pytest.raises(
            ValueError, match=rf"written by process {os.getpid()} on .* another --work"
        ):
            with lock.only_writer(tmp_path):
                raise AssertionError("two writers")
    with lock.only_writer(tmp_path):
        pass


def test_a_dead_owner_locks_nobody_out(tmp_path):
    """kill -9 releases the lock, as the kernel holds it and not the file."""
    code = (
        "import sys, time, pathlib; from lm_jax.training import lock\n"
        "with lock.only_writer(pathlib.Path(sys.argv[1])): print('held', flush=True); "
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
            with lock.only_writer(tmp_path):
                raise AssertionError("two writers")
        owner.kill()
        owner.wait()
        with lock.only_writer(tmp_path):
            assert str(os.getpid()) in (tmp_path / lock.NAME).read_text()


def test_a_run_is_locked_while_it_trains(cache_dir, tmp_path):
    """Seen from within: its own second call is refused."""
    refused = []

    def call_again():
        with pytest.raises(ValueError, match="is being written by process"):
            train(table, toy(cache_dir), tmp_path / "run")
        refused.append(True)
        return True

    assert not train(table, toy(cache_dir), tmp_path / "run", call_again)
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
    """Room for a few checkpoints, which a test may fill."""
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
            deadline = time.monotonic() + 60
            while checkpoint.latest_step(run / "checkpoints") is None:
                assert time.monotonic() < deadline, "no checkpoint in time"
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
        OSError, match=r"cannot write to .*No space left.*the checkpoint of step \d+ is"
    ):
        train(table, cfg, run, at_step(5, lambda: fill(small_disk), run))
    (small_disk / "filling").unlink()
    assert train(table, cfg, run)
    assert train(table, cfg, tmp_path / "straight")
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

    with pytest.raises(OSError, match="cannot write to .*run .*bring it back"):
        train(table, toy(cache_dir), run, at_step(5, vanish, run))
    params = checkpoint.restore_params(tmp_path / "elsewhere" / "checkpoints")
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


def test_a_read_only_directory_is_refused(small_disk, cache_dir):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="cannot write to .*Read-only file system"):
        train(table, toy(cache_dir), small_disk / "run")
