"""Likelihoods of texts against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Source, any_order_nll, biased_logits

from ar_jax import likelihood as ar
from lm_jax.types import MASK, PAD
from mdlm_jax import likelihood as mdlm
from mdlm_jax.schedule import SCHEDULES, linear

SOURCE = Source(num_symbols=3, length=4)
X = jnp.asarray(SOURCE.x[[0, 5, 40, 77]])


def test_ar_likelihood_equals_enumeration():
    """log p(x) for all 81 sequences, with no error; they sum to one."""
    nats, error = ar.log_likelihood(
        SOURCE.causal_logits, {}, jnp.asarray(SOURCE.x), jax.random.key(0), 2
    )
    np.testing.assert_allclose(nats, np.log(SOURCE.p), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(error, 0.0)
    np.testing.assert_allclose(np.exp(nats).sum(), 1.0, rtol=1e-4)


@pytest.mark.parametrize("num_given", range(5))
def test_likelihood_of_the_rest_given_the_first_tokens(num_given):
    """log p(x_4 | x_1, x_2, x_3) and so on, by enumeration: AR equals it, and so does
    MDLM's bound of exact conditionals, within its error."""
    is_same = (SOURCE.x[None, :, :num_given] == SOURCE.x[:, None, :num_given]).all(-1)
    exact = np.log(SOURCE.p) - np.log(is_same @ SOURCE.p)
    x, key = jnp.asarray(SOURCE.x), jax.random.key(3)
    given = jnp.full(len(x), num_given)
    nats, error = ar.log_likelihood(SOURCE.causal_logits, {}, x, key, 2, given)
    np.testing.assert_allclose(nats, exact, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(error, 0.0)
    nats, error = mdlm.log_likelihood(
        SOURCE.timed_logits, {}, X, key, 2_000, given[: len(X)]
    )
    assert np.all(np.abs(nats - exact[[0, 5, 40, 77]]) < 4 * error + 1e-3)
    assert np.all(error < 0.1)


def test_bound_given_tokens_is_the_any_order_average_of_the_rest():
    """For a wrong network, over the orders of what is not given; rows may differ."""
    given = jnp.array([0, 1, 2, 3])
    nats, error = mdlm.log_likelihood(
        biased_logits, {}, X, jax.random.key(1), 4_000, given
    )
    for row, num_given in enumerate(given.tolist()):
        exact = any_order_nll(biased_logits, X[row : row + 1], num_given)[0]
        assert abs(-nats[row] - exact) < 4 * error[row] + 1e-4


def test_given_tokens_are_always_visible():
    """The time is that of the masked share of the whole text."""
    seen = []

    def recording(params, z, t):
        jax.debug.callback(lambda *zt: seen.append(zt), z, t)
        return biased_logits(params, z, t)

    given = jnp.array([3, 1, 0, 2])
    mdlm.log_likelihood(recording, {}, X, jax.random.key(0), 8, given)
    jax.effects_barrier()
    is_given = np.arange(4) < np.asarray(given)[:, None]
    for z, t in seen:
        assert np.all((np.asarray(z) == np.asarray(X))[is_given])
        np.testing.assert_allclose(t, (np.asarray(z) == MASK).mean(-1), atol=1e-6)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_bound_of_the_oracle_is_the_likelihood(schedule):
    """Exact conditionals make the bound tight under every schedule, within error."""
    nats, error = mdlm.log_likelihood(
        SOURCE.timed_logits, {}, X, jax.random.key(0), 4_000, alpha=SCHEDULES[schedule]
    )
    assert np.all(np.abs(nats - SOURCE.log_p(X)) < 4 * error + 1e-3)
    assert np.all(error < 0.1)


def test_bound_is_the_any_order_average_for_any_network():
    """-bound = mean over L! orders of the chain rule under a wrong network."""
    nats, error = mdlm.log_likelihood(biased_logits, {}, X, jax.random.key(1), 4_000)
    assert np.all(np.abs(-nats - any_order_nll(biased_logits, X)) < 4 * error)


def test_bound_is_a_bound_on_what_the_model_says():
    """For one fixed network every bound lies below the log of the any-order mixture.

    The mixture over orders of the chain rule is a distribution q; by Jensen's
    inequality its log is at least the mean of the logs, which is the bound.
    """
    bound = -any_order_nll(biased_logits, SOURCE.x)
    assert np.exp(bound).sum() < 1.0


def test_standard_error_is_the_spread_over_keys():
    """Over 300 keys the spread of the estimate is what it says, within 15%."""
    keys = jax.random.split(jax.random.key(2), 300)

    def estimate(key):
        return mdlm.log_likelihood(biased_logits, {}, X, key, 16)

    nats, errors = jax.jit(lambda keys: jax.lax.map(estimate, keys))(keys)
    claimed = np.sqrt((errors**2).mean(0))
    np.testing.assert_allclose(claimed, nats.std(0), rtol=0.15)


def test_strata_differ_without_an_error():
    """With a stratum for each k, nats that depend on k alone have no error at all."""

    def logits_fn(params, z, t):
        likely = jax.nn.one_hot(4, SOURCE.vocab_size)[None, None]
        return jnp.broadcast_to(3.0 * t[:, None, None] * likely, (*z.shape, 7))

    x = jnp.full((2, 4), 4)
    nats, error = mdlm.log_likelihood(logits_fn, {}, x, jax.random.key(0), 8)
    t = np.arange(1, 5) / 4
    expected = -4 * np.mean(np.log(np.exp(3 * t) + 2) - 3 * t)
    np.testing.assert_allclose(nats, expected, rtol=1e-5)
    np.testing.assert_allclose(error, 0.0, atol=1e-5)


def test_pad_is_no_text_and_is_never_shown():
    """The network never sees PAD, and a row of PAD alone costs nothing."""
    seen = []

    def recording(params, z, t):
        jax.debug.callback(lambda z: seen.append(np.asarray(z)), z)
        return biased_logits(params, z, t)

    x = X.at[:, 2:].set(PAD)
    mdlm.log_likelihood(recording, {}, x, jax.random.key(0), 4)
    jax.effects_barrier()
    assert len(seen) == 4
    assert all((z[:, 2:] == MASK).all() for z in seen)
    empty = jnp.full((2, 4), PAD)
    for family in (ar, mdlm):
        logits = SOURCE.causal_logits if family is ar else SOURCE.timed_logits
        nats, error = family.log_likelihood(logits, {}, empty, jax.random.key(0), 4)
        np.testing.assert_array_equal(nats, 0.0)
        np.testing.assert_array_equal(error, 0.0)


def test_bound_of_a_uniform_network_is_that_of_its_text_alone():
    """n tokens cost n log 3 in every draw, however much PAD follows them."""

    def uniform(params, z, t):
        return jnp.zeros((*z.shape, SOURCE.vocab_size))

    for num_tokens in (1, 2, 4):
        x = X.at[:, num_tokens:].set(PAD)
        nats, error = mdlm.log_likelihood(uniform, {}, x, jax.random.key(0), 8)
        np.testing.assert_allclose(nats, -num_tokens * np.log(3), rtol=1e-5)
        np.testing.assert_allclose(error, 0.0, atol=1e-5)


def test_counts_are_uniform_and_stratified():
    """k over all strata is uniform on 1..n: with n strata each k comes exactly once."""
    keys = jax.random.split(jax.random.key(0), 5)
    strata = jnp.arange(8)
    counts = jax.vmap(lambda s: mdlm.stratified_counts(keys, s, 8, jnp.full((5,), 8)))(
        strata
    )
    np.testing.assert_array_equal(counts, np.tile(np.arange(1, 9)[:, None], (1, 5)))


@pytest.mark.parametrize("num_tokens", [4, 3])
def test_network_is_told_the_time_of_its_masks(num_tokens):
    """alpha(t) is the share of the text that stays clean; PAD is no text."""
    seen = []

    def recording(params, z, t):
        jax.debug.callback(lambda *zt: seen.append(zt), z, t)
        return biased_logits(params, z, t)

    x = X.at[:, num_tokens:].set(PAD)
    mdlm.log_likelihood(recording, {}, x, jax.random.key(0), 8, alpha=linear)
    jax.effects_barrier()
    assert len(seen) == 8
    for z, t in seen:
        masked_share = (np.asarray(z)[:, :num_tokens] == MASK).mean(-1)
        np.testing.assert_allclose(t, masked_share, atol=1e-6)


def test_odd_number_of_draws_is_refused():
    """Two draws share a stratum."""
    with pytest.raises(ValueError, match="num_draws=3"):
        mdlm.log_likelihood(biased_logits, {}, X, jax.random.key(0), 3)
