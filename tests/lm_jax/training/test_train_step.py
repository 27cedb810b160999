"""The training step: one gradient, however the batch is cut and wherever it lies."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fake_models import LENGTH, bigram, noisy_bigram, windows

from lm_jax.sharding import make_mesh, replicate, shard_batch
from lm_jax.training.train_step import init_state, make_train_step
from lm_jax.types import PAD

KEY = jax.random.key(1)
MODELS = {"exact": bigram, "noisy": noisy_bigram}
X = windows(16)


def run(lm, x=X, *, tx=None, num_steps=2, mesh=None, ema=0.0, **options):
    """State and metrics after some steps on the same batch."""
    tx = tx or optax.adam(0.1)
    train_step = make_train_step(lm, tx, KEY, ema=ema, **options)
    state = replicate(mesh, init_state(lm, tx, jax.random.key(0), ema=ema > 0))
    metrics = {}
    for _ in range(num_steps):
        state, metrics = train_step(state, shard_batch(mesh, x))
    return state, metrics, train_step


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradient_are_those_of_the_mean_over_tokens(name):
    """loss = sum of nats / number of tokens that are not PAD; SGD subtracts its
    gradient; step s draws from fold_in(key, s)."""
    lm = MODELS[name]()

    def loss_fn(params, step):
        nats = lm.token_nll(params, jnp.int32(X), jax.random.fold_in(KEY, step))
        return jnp.sum(nats) / np.sum(X != PAD)

    params = lm.init(jax.random.key(0))
    for step in range(2):
        loss, grads = jax.value_and_grad(loss_fn)(params, step)
        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, grads)
    state, metrics, _ = run(lm, tx=optax.sgd(0.5))
    chex.assert_trees_all_close(state.params, params, rtol=1e-5, atol=1e-7)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
    expected = {"loss": loss, "grad_norm": norm, "num_tokens": np.sum(X != PAD)}
    chex.assert_trees_all_close(metrics, expected, rtol=1e-5)
    assert state.step == 2


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("accumulation", [2, 16])
def test_accumulation_changes_nothing(name, accumulation):
    """Nats and gradients of microbatches add up to those of the batch, whose tokens are
    not spread evenly, and each row keeps its noise."""
    state, metrics, _ = run(MODELS[name](), tx=optax.sgd(0.5))
    again, same, _ = run(MODELS[name](), tx=optax.sgd(0.5), accumulation=accumulation)
    chex.assert_trees_all_close(again.params, state.params, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(same, metrics, rtol=1e-5)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_model_sees_a_microbatch_at_a_time(accumulation):
    """So memory is that of B / A rows."""
    sizes = set()

    def token_nll(params, x, key, rows=None):
        sizes.add(x.shape)
        return bigram().token_nll(params, x, key, rows)

    run(bigram()._replace(token_nll=token_nll), accumulation=accumulation)
    assert sizes == {(16 // accumulation, LENGTH)}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_eight_devices_do_what_one_does(accumulation):
    """The sharded step has the same noise and, up to the order of sums, the same
    result; its state stays whole on every device."""
    mesh = make_mesh(len(X) // accumulation)
    assert mesh.size == 8
    state, metrics, _ = run(noisy_bigram(), tx=optax.sgd(0.5))
    sharded, same, train_step = run(
        noisy_bigram(), tx=optax.sgd(0.5), mesh=mesh, accumulation=accumulation
    )
    chex.assert_trees_all_close(sharded.params, state.params, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(same, metrics, rtol=1e-5)
    for leaf in jax.tree.leaves(sharded):
        assert leaf.sharding.is_fully_replicated and len(leaf.devices()) == 8
    assert train_step._cache_size() == 1


def test_a_batch_lies_spread_over_the_devices():
    x = shard_batch(make_mesh(16), X)
    shapes = {shard.data.shape for shard in x.addressable_shards}
    assert shapes == {(2, LENGTH)} and len(x.devices()) == 8
    np.testing.assert_array_equal(x, X)


def test_rows_that_do_not_divide_by_the_devices_are_refused():
    with pytest.raises(ValueError, match="12 rows .* 8 devices: make it a multiple"):
        make_mesh(12)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_step_compiles_once(accumulation):
    """The state that comes out goes in again: same shapes, types and places."""
    _, _, train_step = run(
        noisy_bigram(), accumulation=accumulation, ema=0.9, num_steps=4
    )
    assert train_step._cache_size() == 1


def test_the_old_state_is_donated():
    """Its memory holds the new one: at no time are there two."""
    lm, tx = bigram(), optax.adam(0.1)
    state = init_state(lm, tx, jax.random.key(0), ema=True)
    make_train_step(lm, tx, KEY, ema=0.9)(state, jnp.int32(X))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_the_average_follows_the_parameters():
    """a_0 = p_0, then a_s = d a_{s-1} + (1 - d) p_s, d = min(ema, s / (9 + s))."""
    lm = bigram()
    tables = [run(lm, num_steps=s)[0].params["bigram"]["table"] for s in range(5)]
    average = np.asarray(tables[0], np.float64)
    for s, table in enumerate(tables[1:], start=1):
        d = min(0.25, s / (9 + s))
        average = d * average + (1 - d) * np.asarray(table)
    state, _, _ = run(lm, num_steps=4, ema=0.25)
    np.testing.assert_allclose(state.ema["bigram"]["table"], average, rtol=1e-5)
    chex.assert_trees_all_equal(state.params["bigram"]["table"], tables[4])
    assert state.averaged is state.ema


def test_without_an_average_the_parameters_are_evaluated():
    state, _, _ = run(bigram(), num_steps=1)
    assert state.ema is None and state.averaged is state.params
