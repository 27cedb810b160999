"""Losses that are not finite."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import train_helpers
from fake_models import FAMILY, LENGTH, bigram, windows
from tiny_configs import toy

from lm_jax.data import dataset
from lm_jax.data.batches import batch_indices, train_batches
from lm_jax.run import train
from lm_jax.training import nonfinite
from lm_jax.training.train_step import init_state, make_train_step


def poisoned():
    """The bigram's loss, which is not a number on windows of ones."""

    def token_nll(params, x, key, rows=None):
        nats = bigram().token_nll(params, x, key, rows)
        return jnp.where(jnp.any(jnp.all(x == 1, axis=1)), jnp.nan, nats)

    return bigram()._replace(token_nll=token_nll)


def poison(*steps):
    return train_helpers.changed_batches(
        lambda step, x: np.ones_like(x) if step in steps else x
    )


def test_steps_without_a_finite_loss_may_be_left_out(tmp_path, caplog):
    """They change nothing, they are counted and named, and the run goes on. It resumes
    with its count."""
    train_helpers.run(
        tmp_path, lm=poisoned(), x=poison(3, 5), max_skipped=2, stop_after=3
    )
    state, _ = train_helpers.run(tmp_path, lm=poisoned(), x=poison(3, 5), max_skipped=2)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))
    assert json.loads((tmp_path / "training.json").read_text())["skipped_steps"] == 2
    for step in (3, 5):
        assert f"left out: loss at step {step}, on batch {step - 1}" in caplog.text


def test_more_than_so_many_steps_are_not_left_out(tmp_path):
    with pytest.raises(nonfinite.NonFiniteError, match="loss at step 5"):
        train_helpers.run(tmp_path, lm=poisoned(), x=poison(3, 5), max_skipped=1)


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


def test_a_step_with_a_gradient_that_is_not_finite_is_skipped():
    """Although its loss is finite: sqrt(0) has an infinite slope."""

    def token_nll(params, x, key, rows=None):
        bias = params["bias"][0]
        zero = bias - jax.lax.stop_gradient(bias)
        root = jnp.sqrt(jnp.where(jnp.all(x == 1), zero, 1.0 + zero))
        return bigram().token_nll(params, x, key, rows) + root

    lm, tx = bigram()._replace(token_nll=token_nll), optax.adam(0.1)
    state = init_state(lm, tx, jax.random.key(0))
    before = jax.tree.map(np.array, state)
    step_fn = make_train_step(lm, tx, jax.random.key(1), skips=True)
    after, metrics = step_fn(state, jnp.ones((16, LENGTH), jnp.int32))
    assert np.isfinite(metrics["loss"]) and not np.isfinite(metrics["grad_norm"])
    chex.assert_trees_all_equal(after.params, before.params)
    chex.assert_trees_all_equal(after.opt_state, before.opt_state)


def test_the_dump_of_a_fault_reproduces_it(cache_dir, tmp_path):
    """fault_<step> holds the very windows, their numbers and where to begin; the same
    command fails again in the same step, on the same batch."""
    cfg = toy(cache_dir)
    numbers = batch_indices(len(dataset.load(cfg).train), 8, cfg.seed)[6]
    bad = int(np.asarray(numbers)[2])
    marked = dataset.load(cfg).train[bad]

    def faulty(cfg):
        lm = FAMILY.build(cfg)

        def token_nll(params, x, key, rows=None):
            is_bad = jnp.any(jnp.all(x == jnp.int32(marked)[None], axis=1))
            return jnp.where(is_bad, jnp.inf, lm.token_nll(params, x, key, rows))

        return lm._replace(token_nll=token_nll)

    messages = []
    for _ in range(2):
        with pytest.raises(nonfinite.NonFiniteError, match="loss at step") as caught:
            train(FAMILY._replace(build=faulty), cfg, tmp_path / "run")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    (path,) = (tmp_path / "run").glob("fault_*")
    record = json.loads((path / "fault.json").read_text())
    x = np.load(path / "batch.npy")
    assert record["step"] <= 7 and bad in record["batch_indices"]
    np.testing.assert_array_equal(
        x, dataset.load(cfg).train[np.array(record["batch_indices"])]
    )
    assert str(path) in messages[0] and record["checkpoint"] == 6
    batches = train_batches(dataset.load(cfg).train, 8, cfg.seed)
    for _ in range(record["step"]):
        read = next(batches)
    np.testing.assert_array_equal(read, x)
