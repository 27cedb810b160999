"""Timing, and the programs that are timed."""

import dataclasses
import time

import jax
import numpy as np
import pytest

import ar_jax
from experiments.speed import hf_baseline, loop, speed, timing, training
from experiments.speed.timing import Spread, alternate, break_even
from lm_jax.config import Config, EvaluateConfig, ModelConfig, TrainConfig

TOY = Config(
    model=ModelConfig(
        length=8, vocab_size=500, width=16, num_layers=1, num_heads=2, ffn_width=24
    ),
    train=TrainConfig(batch_size=8),
    evaluate=EvaluateConfig(batch_size=8, num_draws=2),
)


def test_programs_take_turns_after_a_call_that_is_not_timed():
    """One round to compile, then a b b a; a slow program is not called for ever."""
    calls, now = [], [0.0]

    def program(name, seconds):
        calls.append(name)
        now[0] += seconds

    programs = {"a": lambda: program("a", 1.0), "b": lambda: program("b", 4.0)}
    found = alternate(programs, repeats=3, patience=7.0, clock=lambda: now[0])
    assert "".join(calls) == "ab" + "ab" + "ba" + "a"
    assert found == {"a": Spread((1.0, 1.0, 1.0)), "b": Spread((4.0, 4.0))}


def test_a_row_is_the_median_and_the_extremes():
    """Of an even number, the mean of the two in the middle; each of two calls' time."""
    found = timing.row(Spread((8.0, 2.0, 4.0, 6.0)).over(2), num_tokens=5)
    assert found == {
        "seconds": 2.5,
        "low": 1.0,
        "high": 4.0,
        "repeats": 4,
        "tokens_per_second": 2.0,
    }


def test_the_interval_of_a_ratio_holds_its_median():
    """At least 95 times of 100, also where a tenth of the calls is disturbed; and what
    slows a whole round, both programs alike, does not move it."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(500):
        load = rng.exponential(size=31) + 0.1
        ratio = np.exp(0.1 * rng.normal(size=31)) * 2.0
        ratio[rng.random(31) < 0.05] *= 5.0
        ratio[rng.random(31) < 0.05] /= 5.0
        found = Spread(tuple(load)).faster_than(Spread(tuple(load * ratio)))
        hits += found.low <= 2.0 <= found.high
    assert 0.95 * 500 <= hits < 500


@pytest.mark.parametrize(
    "target, steps", [(1.0, 8.0), (3.0, 16.0), (2.0, 12.0), (0.5, None), (9.0, None)]
)
def test_break_even_lies_on_the_line_between_measurements(target, steps):
    """8 steps take 1 s, 16 take 3 s: 2 s are 12 steps; outside nothing is guessed."""
    assert break_even({16: 3.0, 8: 1.0}, target) == steps


def test_every_part_times_both_families():
    """Tokens per second are tokens over the median; MDLM calls once a step at most."""
    found = {
        "training": training.training(TOY, repeats=2, shapes=["8x8", "4x8"]),
        "evaluation": speed.evaluation(TOY, repeats=2),
        "sampling": speed.sampling(TOY, 2, num_steps=(2, 4), batches=(8,)),
    }
    parts = [*found["training"]["shapes"], found["evaluation"]]
    for part, num_tokens in zip(parts, (64, 32, 64), strict=True):
        assert set(part["families"]) == {"ar", "mdlm"}
        assert np.prod(part["batch"]) == num_tokens
        for row in part["families"].values():
            tokens_per_second = num_tokens / row["seconds"]
            assert row["tokens_per_second"] == pytest.approx(tokens_per_second)
            assert row["low"] <= row["seconds"] <= row["high"]
    for row in parts[0]["families"].values():
        flops = row["tokens_per_second"] * row["flops_per_token"]
        share = flops / parts[0]["matmul_flops_per_second"]["matmul"]
        assert row["share_of_matmul_peak"] == pytest.approx(share)
        assert row["hlo"]["num_kernels"] > 10 and row["hlo"]["temporary_bytes"] > 0
    rows = found["sampling"]["8"]["rows"]
    assert rows["ar"]["nfe"] == 8
    assert rows["mdlm 2"]["nfe"] <= 2
    assert 2 <= rows["mdlm 4"]["nfe"] <= 4
    text = speed.table(found)
    for name in ("training", "evaluation", "sampling, batch 8", "mdlm 4", "as fast as"):
        assert name in text


def test_what_the_loop_does_beside_a_step_is_seen_in_its_time(monkeypatch):
    """4 ms of notes are 4 ms a step; a row is tokens over seconds."""
    monkeypatch.setattr(loop, "STEPS", 25)
    part = loop.loop(TOY, repeats=2, store=2_000)["shapes"][0]
    assert part["batch"] == (8, 8)
    tokens_per_second = 64 / part["row"]["seconds"]
    assert part["row"]["tokens_per_second"] == pytest.approx(tokens_per_second)
    add = loop.hooks.TrainLogger.add

    def add_slowly(*args):
        time.sleep(0.004)
        add(*args)

    monkeypatch.setattr(loop.hooks.TrainLogger, "add", add_slowly)
    found = loop.loop(TOY, repeats=2, shapes=["4x8"], store=2_000)
    assert found["shapes"][0]["row"]["low"] >= 0.004
    assert "4x8 tokens" in "\n".join(loop.lines(found))


@pytest.mark.skipif(not hf_baseline.is_installed(), reason="needs the extra 'hf'")
def test_the_baseline_has_our_parameters_and_fills_the_window():
    """As many parameters as AR, and L tokens without an early end."""
    cfg = dataclasses.replace(TOY.model, vocab_size=512)  # ours is padded to 128s
    lm = ar_jax.language_model(dataclasses.replace(TOY, model=cfg))
    ours = jax.eval_shape(lambda: lm.init(jax.random.key(0)))
    theirs = hf_baseline.make_model(cfg).parameters()
    assert sum(leaf.size for leaf in jax.tree.leaves(ours)) == sum(
        parameter.numel() for parameter in theirs
    )
    assert hf_baseline.generate(cfg, 2)().shape == (2, 1 + cfg.length)


@pytest.mark.parametrize(
    "kind, peak",
    [("NVIDIA H200", 989e12), ("NVIDIA H100 PCIe", 756e12), ("cpu", None)],
)
def test_the_data_sheet_knows_devices_by_the_beginning_of_their_name(kind, peak):
    """The longest name wins; an unknown device has no peak, rather than a wrong one."""
    assert training.data_sheet(kind) == peak


def test_shapes_that_are_none_are_refused():
    with pytest.raises(ValueError, match="windows x tokens"):
        training.reshaped(TOY, "32*512")


def test_a_baseline_that_is_not_installed_is_refused(monkeypatch):
    """Before anything is timed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[bench\]'"):
        training.training(TOY, repeats=1, modes=["eager"])
