"""The loop: an interrupted run equals an uninterrupted one, and every end is clean."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workers
from fake_models import LENGTH, batches, bigram, noisy_bigram
from train_helpers import changed_batches, evaluate, run

from lm_jax import checkpoint
from lm_jax.sharding import make_mesh
from lm_jax.training import loop
from lm_jax.training import metrics as metric_module

TIMINGS = {"tokens_per_second"}  # and whatever begins with "seconds"


def lines(workdir):
    """The lines of metrics.jsonl, without what the clock says."""
    text = (Path(workdir) / "metrics.jsonl").read_text()
    return [
        {k: v for k, v in json.loads(line).items() if not _is_timing(k)}
        for line in text.splitlines()
    ]


def _is_timing(name):
    return name in TIMINGS or name.startswith("seconds")


def fail(*_):
    raise AssertionError("must not be called")


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nobody disturbed: its directory, state and position."""
    workdir = tmp_path_factory.mktemp("straight")
    return workdir, *run(workdir)


def assert_same_end(straight, workdir, state, position):
    chex.assert_trees_all_equal(state, straight[1])
    assert position == straight[2] == {"next_index": 6}
    assert lines(workdir) == lines(straight[0])
    assert loop.is_finished(workdir, 6)


def test_the_lines_tell_the_whole_run(straight):
    """The curve begins before the first step, and every step is in one mean."""
    workdir, state, _ = straight
    steps = {"train": [2, 4, 6], "validation": [0, 4, 6]}
    for split, expected in steps.items():
        found = [x["step"] for x in lines(workdir) if x["split"] == split]
        assert found == expected
    last = lines(workdir)[-1]
    tokens = sum(int(np.sum(next(x) > 0)) for x in [batches(16)] for _ in range(6))
    assert last["tokens"] == tokens and last["flops"] == 6 * 16 * LENGTH * 100.0
    assert last["nats_per_token"] == evaluate(state.ema)["nats_per_token"]
    assert any(path.name.startswith("events.out") for path in workdir.iterdir())


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_a_stopped_run_goes_on_as_if_it_never_stopped(straight, tmp_path, stop_after):
    """State, position and lines are equal, bit for bit, wherever SIGTERM came."""
    state, position = run(tmp_path, stop_after=stop_after)
    assert position == {"next_index": stop_after} and state.step == stop_after
    assert checkpoint.latest_step(tmp_path / "checkpoints") == stop_after
    assert not loop.is_finished(tmp_path, 6)
    assert_same_end(straight, tmp_path, *run(tmp_path))


def test_a_crashed_run_loses_only_the_steps_since_the_last_save(straight, tmp_path):
    """It crashes in step 6, after a line that it will write again, and one half."""

    def crash(step, x):
        if step == 6:
            raise RuntimeError("crash")
        return x

    with pytest.raises(RuntimeError, match="crash"):
        run(tmp_path, x=changed_batches(crash), log_every=1, save_every=3)
    assert checkpoint.latest_step(tmp_path / "checkpoints") == 4
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "spl')
    state, position = run(tmp_path, log_every=1, save_every=3)
    chex.assert_trees_all_equal(state, straight[1])
    assert position == straight[2]
    found = [(line["step"], line["split"]) for line in lines(tmp_path)]
    assert len(found) == len(set(found)) == 9


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_with_a_damaged_checkpoint_takes_the_one_before(
    straight, tmp_path, caplog
):
    """Bits flip in the newest checkpoint: it is named, and the end is the same."""
    run(tmp_path, stop_after=5)
    newest = tmp_path / "checkpoints" / "5"
    for file in newest.glob("state/**/d/*"):
        octets = bytearray(file.read_bytes())
        octets[len(octets) // 2] ^= 16
        file.write_bytes(octets)
    assert_same_end(straight, tmp_path, *run(tmp_path))
    assert f"{newest} is damaged" in caplog.text


def test_a_run_on_eight_devices_resumes_as_well(straight, tmp_path):
    """Bit for bit among themselves, and one device agrees up to rounding."""
    mesh = make_mesh(16)
    state, _ = run(tmp_path / "a", mesh=mesh)
    run(tmp_path / "b", mesh=mesh, stop_after=3)
    again, _ = run(tmp_path / "b", mesh=mesh)
    chex.assert_trees_all_equal(again, state)
    chex.assert_trees_all_close(again, straight[1], rtol=1e-4, atol=1e-6)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_a_finished_run_returns_at_once(straight):
    """It neither compiles a step, nor evaluates, nor touches what is written."""
    workdir, state, _ = straight
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
    lm = noisy_bigram()._replace(token_nll=fail)
    again, _ = run(workdir, lm=lm, evaluate=fail)
    chex.assert_trees_all_equal(again, state)
    after = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
    assert before == after


def test_a_run_that_crashed_before_its_first_save_begins_its_lines_anew(tmp_path):
    """Step 0 was evaluated by both calls, and stands there once."""

    def crash(step, x):
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        run(tmp_path, x=changed_batches(crash))
    assert [line["step"] for line in lines(tmp_path)] == [0]
    run(tmp_path)
    assert [line["step"] for line in lines(tmp_path)].count(0) == 1


def test_a_run_whose_last_checkpoint_is_gone_is_not_finished(straight, tmp_path):
    """It goes on from the one before it, to the same end."""
    run(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "6")
    assert not loop.is_finished(tmp_path, 6)
    assert_same_end(straight, tmp_path, *run(tmp_path))


def test_a_longer_plan_is_not_finished(straight):
    assert loop.is_finished(straight[0], 6) and not loop.is_finished(straight[0], 7)


def test_the_step_is_traced_once(tmp_path):
    """Saves, evaluations and lines do not make it compile again."""
    traces = []

    def token_nll(*args, **kwargs):
        traces.append(args)
        return bigram().token_nll(*args, **kwargs)

    run(tmp_path, lm=bigram()._replace(token_nll=token_nll))
    assert len(traces) == 1


def test_a_checkpoint_of_another_model_ends_the_run(straight):
    """And leaves everything where it was."""
    before = lines(straight[0])
    with pytest.raises(ValueError, match="params/bias is .*11.* there, .*12.* here"):
        run(straight[0], lm=bigram(vocab_size=12))
    assert lines(straight[0]) == before and loop.is_finished(straight[0], 6)


def test_a_loss_that_is_not_finite_names_step_and_batch(tmp_path):
    """Lines come every 6 steps, but no save and no evaluation trusts an unread step."""

    def token_nll(params, x, key, rows=None):
        nats = bigram().token_nll(params, x, key, rows)
        return jnp.where(jnp.all(x == 1), jnp.nan, nats)

    def poison(step, x):
        return np.ones_like(x) if step == 3 else x

    lm = bigram()._replace(token_nll=token_nll)
    with pytest.raises(
        FloatingPointError, match="loss at step 3, on batch 2 .* is nan"
    ):
        run(tmp_path, lm=lm, x=changed_batches(poison), log_every=6)
    assert checkpoint.latest_step(tmp_path / "checkpoints") == 2
    params = checkpoint.restore_params(tmp_path / "checkpoints").params
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))
    assert {line["step"] for line in lines(tmp_path)} == {0}
    assert not loop.is_finished(tmp_path, 6)


def test_a_validation_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match="validation loss at step 0 is inf"):
        run(tmp_path, evaluate=lambda params: {"nats_per_token": float("inf")})


def test_the_best_checkpoint_stays(tmp_path):
    """Steps 2, 4 and 6 are evaluated; 2 is the best, and 6 the latest."""
    scores = iter([9.0, 1.0, 3.0, 2.0])
    run(
        tmp_path,
        evaluate=lambda params: {"nats_per_token": next(scores)},
        eval_every=2,
        save_every=1,
        keep=1,
    )
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == ["2", "6"]
    best = checkpoint.restore_params(tmp_path / "checkpoints", which="best").params
    latest = checkpoint.restore_params(tmp_path / "checkpoints").params
    assert not np.array_equal(best["bias"], latest["bias"])


class FakeTime:
    """A step takes a second, an evaluation a hundred."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def evaluate(self, params):
        self.now += 100.0
        return evaluate(params)

    def batches(self):
        def tick(step, x):
            self.now += 1.0
            return x

        return changed_batches(tick)


def test_max_seconds_counts_only_training(tmp_path, monkeypatch):
    """Of five steps the first compiles and four train: 4 s >= 3.5 s. Time goes on
    counting after a stop, and a run without time left is finished."""
    clock = FakeTime()
    monkeypatch.setattr(metric_module, "time", clock)
    options = {"evaluate": clock.evaluate, "max_seconds": 3.5}
    run(tmp_path / "a", x=clock.batches(), **options)
    summary = json.loads((tmp_path / "a" / "training.json").read_text())
    assert summary["num_steps"] == 5 and summary["planned_steps"] == 6
    assert summary["seconds"] == 4.0 and summary["seconds_compiling"] == 1.0
    assert summary["seconds_evaluating"] == 300.0  # at 0, at 4 and at the end
    assert loop.is_finished(tmp_path / "a", 6)
    run(tmp_path / "a", evaluate=fail, max_seconds=3.5)

    run(tmp_path / "b", x=clock.batches(), stop_after=3, **options)
    run(tmp_path / "b", x=clock.batches(), **options)
    summary = json.loads((tmp_path / "b" / "training.json").read_text())
    assert summary["num_steps"] == 6 and summary["seconds_compiling"] == 2.0
    assert summary["seconds"] == 4.0 and summary["seconds_evaluating"] == 300.0
    assert summary["num_tokens"] == lines(tmp_path / "b")[-1]["tokens"]


def test_speed_is_tokens_over_seconds_without_the_first_step(tmp_path, monkeypatch):
    """At a second a step, steps 3 and 4 have so many tokens per second: their mean."""
    clock = FakeTime()
    monkeypatch.setattr(metric_module, "time", clock)
    run(tmp_path, x=clock.batches(), evaluate=clock.evaluate)
    x = batches(16)
    tokens = [int(np.sum(next(x) > 0)) for _ in range(6)]
    speeds = [
        json.loads(line)["tokens_per_second"]
        for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
        if "tokens_per_second" in line
    ]
    assert speeds == [
        tokens[1],
        (tokens[2] + tokens[3]) / 2,
        (tokens[4] + tokens[5]) / 2,
    ]


def test_two_families_begin_with_the_same_parameters_and_batches(tmp_path):
    """The keys depend on the seed alone."""
    seen = {}
    for name, lm in (("bigram", bigram()), ("noisy", noisy_bigram())):
        params = []

        def keep(p, params=params):
            params.append(jax.tree.map(np.array, p))
            return evaluate(p)

        run(tmp_path / name, lm=lm, evaluate=keep, num_steps=3)
        seen[name] = params
    chex.assert_trees_all_equal(seen["bigram"][0], seen["noisy"][0])
    assert not np.array_equal(seen["bigram"][1]["bias"], seen["noisy"][1]["bias"])


def test_off_a_terminal_progress_is_plain_lines(tmp_path, capfd):
    run(tmp_path)
    err = capfd.readouterr().err
    assert "noisy: 4 of 6 steps: train " in err and "nats/token" in err
    assert "\r" not in err


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_never_stopped(tmp_path):
    """kill -9, at a moment that nobody chose, in a process of its own."""
    plan = {"num_steps": 200, "save_every": 10, "eval_every": 50}
    code = f"import sys, train_helpers; train_helpers.run(sys.argv[1], **{plan})"
    settings = workers.environment(8)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(metrics.parent)], env=settings
    ) as process:
        while not (metrics.exists() and len(metrics.read_bytes().splitlines()) > 20):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    state, position = run(metrics.parent, **plan)
    chex.assert_trees_all_equal(state, run(tmp_path / "straight", **plan)[0])
    assert position == {"next_index": 200}
    assert lines(metrics.parent) == lines(tmp_path / "straight")


def test_a_bound_is_shown_as_one():
    """Only a bound has an error over draws."""
    values = {"nats_per_token": 1.0, "standard_error": 0.5}
    shown = metric_module._describe("validation", values)
    assert shown == "validation ≤ 1.0000 ± 0.5000 nats/token"
    shown = metric_module._describe("validation", values | {"standard_error": 0.0})
    assert shown == "validation 1.0000 nats/token"
