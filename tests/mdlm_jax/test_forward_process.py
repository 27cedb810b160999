"""Times, masks, schedules and the time embedding: right, and the same on any device."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lm_jax.keys import row_keys
from lm_jax.types import EOS, MASK, PAD, Rows
from mdlm_jax.forward_process import (
    independent_times,
    mask_exactly,
    mask_tokens,
    stratified_times,
)
from mdlm_jax.objective import nelbo_weight
from mdlm_jax.schedule import SCHEDULES, inverse
from mdlm_jax.time_embedding import sinusoidal

T = jnp.linspace(0.01, 0.99, 25)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedule_falls_from_one_to_zero(name):
    """alpha(0) = 1, alpha(1) = 0, and alpha decreases between."""
    alpha = SCHEDULES[name]
    ends = alpha(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(ends, [1.0, 0.0], atol=1e-6)
    assert np.all(np.diff(alpha(T)) < 0)


@pytest.mark.parametrize(
    "name, t, expected",
    [
        ("linear", 0.25, 0.75),
        ("polynomial", 0.5, 0.75),
        ("cosine", 0.5, 1 - np.sqrt(0.5)),
        ("log_linear", 0.25, 0.75),
        ("cos_squared", 0.5, 0.5),
        ("cos_squared", 1 / 3, 0.75),
    ],
)
def test_schedule_has_its_published_values(name, t, expected):
    """Hand-computed points of each formula."""
    np.testing.assert_allclose(SCHEDULES[name](jnp.array(t)), expected, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_weight_is_the_slope_over_the_masked_share(name):
    """-alpha' / (1 - alpha), against a central difference in float64."""
    alpha, h = SCHEDULES[name], 1e-3
    slope = (np.float64(alpha(T + h)) - np.float64(alpha(T - h))) / (2 * h)
    expected = -slope / (1 - np.float64(alpha(T)))
    np.testing.assert_allclose(nelbo_weight(alpha, T), expected, rtol=5e-3)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_weight_is_finite_on_the_closed_interval(name):
    """No NaN and no infinity at t = 0, t = 1 and the smallest float."""
    t = jnp.array([0.0, 1e-38, 1e-9, 1e-5, 1.0])
    assert np.all(np.isfinite(nelbo_weight(SCHEDULES[name], t)))


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_inverse_inverts(name):
    """alpha(inverse(alpha, a)) = a."""
    share = jnp.linspace(0.0, 1.0, 17)
    t = inverse(SCHEDULES[name], share)
    np.testing.assert_allclose(SCHEDULES[name](t), share, atol=2e-6)


@pytest.mark.parametrize("total", [1, 7, 32, 49])
def test_times_are_stratified_over_the_whole_batch(total):
    """One time in each of B equal cells, for any B; t is never 0."""
    t = stratified_times(jax.random.key(0), Rows(jnp.arange(total), total))
    np.testing.assert_array_equal(np.ceil(np.float64(t) * total), np.arange(total) + 1)


def test_times_are_uniform():
    """Over keys, one row's t is uniform on its cell."""
    keys = jax.random.split(jax.random.key(1), 4_000)
    rows = Rows(jnp.arange(2), 2)
    t = jax.vmap(lambda key: stratified_times(key, rows))(keys)
    np.testing.assert_allclose(t.mean(0), [0.25, 0.75], atol=0.01)
    np.testing.assert_allclose(t.std(0), 0.5 / np.sqrt(12), rtol=0.05)


def test_independent_times_know_nothing_of_each_other():
    """Uniform on (0, 1], uncorrelated, and a row's own whatever batch it is in."""
    keys = jax.random.split(jax.random.key(1), 4_000)
    rows = Rows(jnp.arange(2), 2)
    t = np.asarray(jax.vmap(lambda key: independent_times(key, rows))(keys))
    assert t.min() > 0.0 and t.max() <= 1.0
    np.testing.assert_allclose(t.mean(0), 0.5, atol=0.02)
    np.testing.assert_allclose(t.std(0), 1 / np.sqrt(12), rtol=0.05)
    assert abs(np.corrcoef(t.T)[0, 1]) < 0.05
    one = independent_times(keys[0], Rows(jnp.arange(1, 2), 8))
    np.testing.assert_array_equal(one, t[0, 1:])


def test_masks_come_at_their_rate_and_pad_is_never_seen():
    """Each token is masked with probability 1 - alpha, or stays; PAD is hidden."""
    x = jnp.full((3, 4_000), EOS).at[:, -50:].set(PAD)
    alpha = jnp.array([1.0, 0.3, 0.0])
    z = np.asarray(mask_tokens(row_keys(jax.random.key(0), jnp.arange(3)), x, alpha))
    text, padding = z[:, :-50], z[:, -50:]
    np.testing.assert_allclose((text == MASK).mean(-1), 1 - alpha, atol=0.03)
    assert set(np.unique(text)) == {MASK, EOS}
    assert (padding == MASK).all()


def test_exact_masks_are_exact_and_uniform():
    """k of n text tokens are masked, every position equally often."""
    x = jnp.full((6_000, 5), EOS).at[:, 4].set(PAD)
    keys = row_keys(jax.random.key(0), jnp.arange(6_000))
    k = jnp.arange(6_000) % 4 + 1
    z = np.asarray(mask_exactly(keys, x, k))
    np.testing.assert_array_equal((z[:, :4] == MASK).sum(-1), k)
    assert (z[:, 4] == MASK).all()
    share = (z[:, :4] == MASK).mean(0)
    np.testing.assert_allclose(share, 2.5 / 4, atol=0.03)


def test_sinusoids_are_the_published_ones():
    """sin and cos of 1000 t 10000^(-i / half), against NumPy in float64."""
    t = np.array([0.0, 0.1, 0.5, 1.0])
    frequency = 10_000.0 ** (-np.arange(4) / 4)
    angle = 1000 * t[:, None] * frequency
    expected = np.concatenate([np.sin(angle), np.cos(angle)], -1)
    np.testing.assert_allclose(sinusoidal(jnp.asarray(t), 8), expected, atol=1e-3)


def noise(key, x, index, total):
    """All that is random or a function of time, as one function of (key, arrays)."""
    key_t, key_z = jax.random.split(key)
    t = stratified_times(key_t, Rows(index, total))
    z = {
        name: mask_tokens(row_keys(jax.random.fold_in(key_z, i), index), x, alpha(t))
        for i, (name, alpha) in enumerate(sorted(SCHEDULES.items()))
    }
    weights = {name: nelbo_weight(alpha, t) for name, alpha in SCHEDULES.items()}
    return t, z, weights, sinusoidal(t, 16)


@pytest.mark.parametrize("how", ["sharded", "vmap", "pmap", "shard_map"])
def test_noise_is_bit_identical_on_any_device(how):
    """jit, sharded jit, vmap, pmap and shard_map on 8 devices agree, bit for bit."""
    devices, batch = jax.devices()[:8], 16
    assert len(devices) == 8
    index = jnp.arange(batch)
    x = jax.random.randint(jax.random.key(4), (batch, 32), EOS, 50)
    expected = jax.jit(partial(noise, total=batch))(jax.random.key(3), x, index)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.tree.map(lambda a: a.reshape(8, 2, *a.shape[1:]), (x, index))
    local = partial(noise, jax.random.key(3), total=batch)
    if how == "sharded":
        sharding = jax.sharding.NamedSharding(mesh, P("data"))
        put = jax.device_put((x, index), sharding)
        actual = jax.jit(partial(noise, total=batch))(jax.random.key(3), *put)
    elif how == "vmap":
        actual = jax.jit(jax.vmap(local))(*split)
    elif how == "pmap":
        actual = jax.pmap(local, devices=devices)(*split)
    else:
        specs = {"in_specs": (P("data"), P("data")), "out_specs": P("data")}
        actual = jax.jit(jax.shard_map(local, mesh=mesh, **specs))(x, index)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.reshape(a, b.shape), b),
        actual,
        expected,
    )
