"""The two objectives against enumeration, oracles, invariances and known limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Source, any_order_nll, biased_logits

from ar_jax import objective as ar
from lm_jax.model.nll import nll_from_logits, text_logits
from lm_jax.types import BOS, EOS, NUM_NON_TEXT, PAD, Rows
from mdlm_jax import objective as mdlm
from mdlm_jax.forward_process import TIMES
from mdlm_jax.schedule import SCHEDULES

SOURCE = Source(num_symbols=3, length=4)
X = jnp.asarray(SOURCE.x[[0, 5, 40, 77]])


def uniform_logits(params, z, *time):
    return jnp.zeros((*z.shape, SOURCE.vocab_size))


def mean_nll(token_nll, logits_fn, x, num_draws, **kwargs):
    """The average over keys of each row's summed nats, (B,), with standard error."""
    keys = jax.random.split(jax.random.key(1), num_draws)

    def one(key):
        return token_nll(nll_from_logits(logits_fn), {}, x, key, **kwargs).sum(-1)

    nats = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=256))(keys)
    return nats.mean(0), nats.std(0) / np.sqrt(num_draws)


def test_text_logits_rule_out_what_is_no_text():
    """Softmax gives PAD, BOS, UNK and MASK nothing, and EOS its share."""
    p = jax.nn.softmax(text_logits(jnp.zeros((2, 7))))
    np.testing.assert_array_equal(p[:, :NUM_NON_TEXT], 0.0)
    np.testing.assert_allclose(p[:, EOS], 1 / 3, rtol=1e-6)


def test_pad_weighs_nothing():
    """A window's nats are those of its text, for both families."""
    x = X.at[:, 2:].set(PAD)
    nats = ar.token_nll(nll_from_logits(uniform_logits), {}, x, jax.random.key(0))
    np.testing.assert_array_equal(nats[:, 2:], 0.0)
    np.testing.assert_allclose(nats[:, :2], np.log(3), rtol=1e-6)
    nats = mdlm.token_nll(nll_from_logits(uniform_logits), {}, x, jax.random.key(0))
    np.testing.assert_array_equal(nats[:, 2:], 0.0)


def test_ar_is_the_chain_rule():
    """With oracle conditionals the sum over tokens is -log p(x), by enumeration."""
    nats = ar.token_nll(
        nll_from_logits(SOURCE.causal_logits),
        {},
        jnp.asarray(SOURCE.x),
        jax.random.key(0),
    )
    np.testing.assert_allclose(nats.sum(-1), -np.log(SOURCE.p), rtol=1e-4, atol=1e-4)


def test_ar_reads_bos_and_never_the_last_token():
    """The network's input is BOS, x_1, ..., x_{L-1}, whatever it makes of it."""
    seen = []

    def spy(params, inputs):
        seen.append(np.asarray(inputs))
        return uniform_logits(params, inputs)

    x = jnp.array([[5, 6, 7], [7, 5, 5]])
    ar.token_nll(nll_from_logits(spy), {}, x, jax.random.key(0))
    np.testing.assert_array_equal(seen, [[[BOS, 5, 6], [BOS, 7, 5]]])


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_uniform_head_scores_log_v_under_every_schedule(schedule):
    """E sum of -alpha'/(1 - alpha) log V over the masked = L log V, whatever alpha."""
    x = jnp.tile(X[:1], (256, 1))
    nats, _ = mean_nll(
        mdlm.token_nll, uniform_logits, x, 200, alpha=SCHEDULES[schedule]
    )
    np.testing.assert_allclose(nats.mean() / 4, np.log(3), rtol=0.03)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_nelbo_is_the_any_order_average_under_every_schedule(schedule):
    """NELBO(x) = mean over L! orders of the chain rule, for a wrong network too."""
    x = jnp.tile(X[:2], (64, 1))  # a text's rows span all strata of time
    alpha = SCHEDULES[schedule]
    nats, _ = mean_nll(mdlm.token_nll, biased_logits, x, 1_500, alpha=alpha)
    nats = nats.reshape(64, 2).mean(0)
    np.testing.assert_allclose(nats, any_order_nll(biased_logits, X[:2]), rtol=0.03)


def test_nelbo_of_the_oracle_is_the_likelihood():
    """With exact conditionals the bound is tight: NELBO(x) = -log p(x)."""
    x = jnp.tile(X, (64, 1))
    nats, _ = mean_nll(mdlm.token_nll, SOURCE.timed_logits, x, 1_500)
    nats = nats.reshape(64, 4).mean(0)
    np.testing.assert_allclose(nats, -SOURCE.log_p(X), rtol=0.03)


def test_token_mean_is_the_mean_over_the_masked():
    """The study's loss: every mask of the batch counts the same, no weight by time."""
    nats = mdlm.token_mean(nll_from_logits(uniform_logits), {}, X, jax.random.key(3))
    np.testing.assert_allclose(nats.mean(), np.log(3), rtol=1e-5)
    nats = mdlm.token_mean(nll_from_logits(biased_logits), {}, X, jax.random.key(3))
    plain, _, is_masked = mdlm.masked_cross_entropy(
        nll_from_logits(biased_logits),
        {},
        X,
        jax.random.key(3),
        None,
        SCHEDULES["linear"],
    )
    expected = plain.sum() / is_masked.sum()
    np.testing.assert_allclose(nats.mean(), expected, rtol=1e-5)


def test_token_mean_counts_no_pad():
    """Where half of a window is PAD: the mean over its text is that over its masks."""
    x = X.at[:, 2:].set(PAD)
    nats = mdlm.token_mean(nll_from_logits(uniform_logits), {}, x, jax.random.key(3))
    np.testing.assert_allclose(nats.sum() / np.sum(x != PAD), np.log(3), rtol=1e-5)


@pytest.mark.parametrize("times", sorted(TIMES))
def test_masks_depend_on_the_time_alone(times):
    """A position is masked with probability t, whatever random number t came from."""
    x = jnp.tile(X[:1], (4_000, 1))
    nll_fn, key = nll_from_logits(uniform_logits), jax.random.key(4)
    _, t, is_masked = mdlm.masked_cross_entropy(
        nll_fn, {}, x, key, None, SCHEDULES["linear"], TIMES[times]
    )
    for rows in (t < 0.5, t >= 0.5):
        share = np.mean(is_masked[rows], axis=0)
        np.testing.assert_allclose(share, np.full(4, np.mean(t[rows])), atol=0.05)


def test_noise_follows_the_row_and_not_the_microbatch():
    """Rows 2 and 3 of a batch of four cost the same when they come alone."""
    whole = mdlm.token_nll(nll_from_logits(biased_logits), {}, X, jax.random.key(5))
    rows = Rows(jnp.arange(2, 4), 4)
    half = mdlm.token_nll(
        nll_from_logits(biased_logits), {}, X[2:], jax.random.key(5), rows
    )
    np.testing.assert_allclose(whole[2:], half, rtol=1e-5)


def test_copying_the_input_does_not_pay():
    """A network that answers its own input scores worse than chance, in both families.

    It would score almost zero if AR forgot the shift or MDLM scored unmasked tokens.
    """

    def copy(params, z, *time):
        return 20.0 * jax.nn.one_hot(z, SOURCE.vocab_size)

    x = jnp.asarray(SOURCE.x)
    nats = ar.token_nll(nll_from_logits(copy), {}, x, jax.random.key(0))
    assert nats.mean() > 2 * np.log(3)
    nats, _ = mean_nll(mdlm.token_nll, copy, x, 200)
    np.testing.assert_allclose(nats.mean() / 4, np.log(3), rtol=0.05)
