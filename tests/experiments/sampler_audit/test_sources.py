"""Conditionals, laws and samples of the sources of the audit, against enumeration."""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampler_distributions import assert_law, draw_by
from scipy.special import logsumexp

from experiments.sampler_audit import sources
from experiments.sampler_audit.sources import HiddenMarkov, MarkovChain
from lm_jax.types import EOS, MASK, NUM_NON_TEXT

pytestmark = pytest.mark.usefixtures("fast_compilation")

LENGTH, NUM_SYMBOLS, NUM_STATES = 5, 4, 3
IDS = range(NUM_NON_TEXT, NUM_NON_TEXT + NUM_SYMBOLS)
X = np.array(list(itertools.product(IDS, repeat=LENGTH)), np.int32)
PATTERNS = np.array(list(itertools.product((MASK, *IDS), repeat=LENGTH)), np.int32)

LONG = 256
NUM_SAMPLES = 20_000

conditionals = jax.jit(lambda source, z: source.conditionals(z))
log_p = jax.jit(lambda source, x: source.log_p(x))

# Compiled, as the operations one by one would take longer to compile.
random_chain = jax.jit(sources.random_chain, static_argnums=1)
random_hidden_markov = jax.jit(sources.random_hidden_markov, static_argnums=(1, 2, 3))
estimate_entropy = jax.jit(sources.estimate_entropy, static_argnums=(2, 3))
chain_entropy = jax.jit(MarkovChain.entropy, static_argnums=1)


@partial(jax.jit, static_argnums=(2, 3))
def sample(source, key, num, length):
    return source.sample(key, num, length)


class Enumerated(NamedTuple):
    """A source, and the probability of each row of X in float64."""

    source: MarkovChain | HiddenMarkov
    p: np.ndarray


def float64(source):
    """Its distributions in float64; rounding must not be counted as an error."""
    rows = [np.asarray(p, np.float64) for p in source]
    return [p / p.sum(axis=-1, keepdims=True) for p in rows]


def enumerated_chain():
    source = random_chain(jax.random.key(0), NUM_SYMBOLS)
    # Not the stationary distribution, so that marginals differ between positions.
    source = source._replace(initial=jnp.array([0.6, 0.1, 0.25, 0.05]))
    m, A = float64(source)
    return Enumerated(source, np.einsum("a,ab,bc,cd,de->abcde", m, A, A, A, A).ravel())


def enumerated_hidden_markov():
    source = random_hidden_markov(jax.random.key(1), NUM_STATES, NUM_SYMBOLS, 0.2)
    source = source._replace(initial=jnp.array([0.7, 0.1, 0.2]))
    m, A, E = float64(source)
    path = "a,ab,bc,cd,de,av,bw,cx,dy,ez->vwxyz"  # the sum over all paths of states
    p = np.einsum(path, m, *[A] * 4, *[E] * 5, optimize=True)
    return Enumerated(source, p.ravel())


CHAIN, HIDDEN_MARKOV = enumerated_chain(), enumerated_hidden_markov()
BOTH = pytest.mark.parametrize(
    "known", [CHAIN, HIDDEN_MARKOV], ids=["chain", "hidden_markov"]
)


@BOTH
def test_conditionals_equal_enumeration(known):
    """p(x_l = v | visible) for all 5^5 patterns of visible tokens and masks."""
    is_hidden = PATTERNS == MASK
    fits = np.all((X == PATTERNS[:, None]) | is_hidden[:, None], axis=-1)
    one_hot = np.eye(known.source.vocab_size)[X]
    p = np.tensordot(fits * known.p, one_hot, axes=1)
    p /= p.sum(axis=-1, keepdims=True)
    found = np.asarray(conditionals(known.source, PATTERNS))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., :NUM_NON_TEXT], -np.inf)
    np.testing.assert_allclose(np.exp(found), p, atol=1e-5)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found[is_hidden], np.log(p[is_hidden]), atol=1e-4)


@BOTH
def test_a_visible_token_is_certain(known):
    """log p is 0 at the visible token and -inf elsewhere."""
    is_visible = PATTERNS != MASK
    found = np.asarray(conditionals(known.source, PATTERNS))[is_visible]
    with np.errstate(divide="ignore"):
        expected = np.log(np.eye(known.source.vocab_size)[PATTERNS[is_visible]])
    np.testing.assert_array_equal(found, expected)


@BOTH
def test_log_p_equals_enumeration(known):
    """Of all 4^5 windows, whose probabilities sum to 1."""
    found = np.asarray(log_p(known.source, X), np.float64)
    np.testing.assert_allclose(found, np.log(known.p), atol=1e-5)
    assert logsumexp(found) == pytest.approx(0.0, abs=1e-5)


@BOTH
@pytest.mark.parametrize("token", [MASK, 0, max(IDS) + 1])
def test_a_window_with_another_token_is_impossible(known, token):
    """log p is -inf where a token is MASK, another special id or out of range."""
    x = X[:3].copy()
    x[1, 2] = token
    found = np.asarray(log_p(known.source, x))
    np.testing.assert_array_equal(np.isneginf(found), [False, True, False])


def test_an_impossible_window_has_no_probability():
    """log p is -inf, not NaN, where a transition has probability 0."""
    chain = MarkovChain(jnp.array([0.5, 0.5]), jnp.array([[0.5, 0.5], [1.0, 0.0]]))
    x = NUM_NON_TEXT + np.array([[0, 1, 1, 0], [0, 1, 0, 1]], np.int32)
    for source in (chain, HiddenMarkov(*chain, emission=jnp.eye(2))):
        expected = [-np.inf, np.log(0.5**3)]
        np.testing.assert_allclose(log_p(source, x), expected, rtol=1e-6)


@BOTH
def test_samples_have_the_law(known):
    """Chi-squared over all windows."""
    law = {tuple(x.tolist()): p for x, p in zip(X, known.p, strict=True)}
    assert_law(sample(known.source, jax.random.key(2), NUM_SAMPLES, LENGTH), law)


@BOTH
def test_rows_do_not_depend_on_the_batch(known):
    """Nor does a sample depend on how many are drawn."""
    found = np.asarray(conditionals(known.source, PATTERNS))
    backwards = np.asarray(conditionals(known.source, PATTERNS[::-1]))
    np.testing.assert_allclose(found, backwards[::-1], rtol=1e-6, atol=1e-6)
    many = sample(known.source, jax.random.key(2), NUM_SAMPLES, LENGTH)
    few = sample(known.source, jax.random.key(2), 2, LENGTH)
    np.testing.assert_array_equal(many[:2], few)


def test_one_token_a_step_samples_the_source():
    """A sampler of the library that makes no parallel error, on exact conditionals."""
    exact = sources.logits_fn(CHAIN.source)
    p = CHAIN.p.reshape(NUM_SYMBOLS**2, -1).sum(axis=1)
    law = dict(zip(itertools.product(IDS, repeat=2), p, strict=True))
    assert_law(draw_by("first_hitting", exact, 4, (4_000, 2)), law)


# Long windows.

LONG_CHAIN = random_chain(jax.random.key(5), 16)
LONG_HIDDEN_MARKOV = random_hidden_markov(jax.random.key(6), 8, 16)
BOTH_LONG = pytest.mark.parametrize(
    "source", [LONG_CHAIN, LONG_HIDDEN_MARKOV], ids=["chain", "hidden_markov"]
)


def long_patterns(source):
    """Windows of the source: all masked, one token visible, few, half, and most."""
    x = np.asarray(sample(source, jax.random.key(7), 8, LONG))
    at = np.arange(LONG)
    u = np.random.default_rng(0).random(LONG)
    visible = (at < 0, at == 0, at == 128, at == 255, u < 0.05, u < 0.5, u < 0.95)
    return np.where([*visible, at >= 0], x, MASK)


@BOTH_LONG
def test_long_windows_are_finite_and_normalised(source):
    """At 256 tokens, also where the nearest visible token is 255 positions away."""
    z = long_patterns(source)
    found = np.asarray(conditionals(source, z), np.float64)
    total = np.asarray(logsumexp(found, axis=-1))
    np.testing.assert_allclose(total, 0.0, atol=1e-5)
    assert np.all(np.isfinite(found[z == MASK][:, NUM_NON_TEXT:]))
    assert np.all(np.isfinite(log_p(source, z[-1:])))


@BOTH_LONG
def test_the_least_likely_window_does_not_underflow(source):
    """The least likely of 16 symbols at every one of 256 positions, one by one."""
    p = float64(source)[-1]
    if isinstance(source, MarkovChain):
        symbols = [int(np.argmin(source.initial))]
        while len(symbols) < LONG:
            symbols.append(int(np.argmin(p[symbols[-1]])))
    else:
        symbols = [int(np.argmin(p.max(axis=0)))] * LONG
    x = NUM_NON_TEXT + np.array([symbols], np.int32)
    found = float(log_p(source, x)[0])
    assert found == pytest.approx(scaled_log_p(source, symbols), rel=1e-5)
    z = np.where(np.arange(LONG) == 100, MASK, x)
    assert np.all(np.isfinite(conditionals(source, z)[0, 100, NUM_NON_TEXT:]))


def scaled_log_p(source, symbols):
    """log p by the forward recursion in float64; a chain emits its own state."""
    initial, transition, *emission = float64(source)
    (emission,) = emission or (np.eye(len(initial)),)
    forward, total = initial, 0.0
    for v in symbols:
        forward = forward * emission[:, v]
        total += np.log(forward.sum())
        forward = forward / forward.sum() @ transition
    return total


def test_a_chain_is_a_hidden_markov_model():
    """Whose states are the symbols: the two algorithms agree at 256 tokens."""
    initial = np.random.default_rng(1).dirichlet(np.ones(16)).astype(np.float32)
    chain = LONG_CHAIN._replace(initial=jnp.asarray(initial))
    hidden_markov = HiddenMarkov(*chain, emission=jnp.eye(16))
    z = long_patterns(chain)
    ours, theirs = (np.exp(conditionals(s, z)) for s in (chain, hidden_markov))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(
        log_p(chain, z[-1:]), log_p(hidden_markov, z[-1:]), rtol=1e-5
    )


def test_without_a_visible_neighbour():
    """No token on either side: initial A^l. One on the left: a row of A^(l - a)."""
    initial, A = float64(CHAIN.source)
    z = np.full((2, LENGTH), MASK)
    z[1, 1] = IDS[2]
    found = np.exp(conditionals(CHAIN.source, z))[..., NUM_NON_TEXT:]
    for at in range(LENGTH):
        expected = initial @ np.linalg.matrix_power(A, at)
        np.testing.assert_allclose(found[0, at], expected, atol=1e-6)
    for at in range(1, LENGTH):
        expected = np.linalg.matrix_power(A, at - 1)[2]
        np.testing.assert_allclose(found[1, at], expected, atol=1e-6)


# Entropy and constructors.


def test_entropy_of_the_chain_equals_enumeration():
    """-E log p(x) / L."""
    expected = -(CHAIN.p @ np.log(CHAIN.p)) / LENGTH
    assert float(chain_entropy(CHAIN.source, LENGTH)) == pytest.approx(
        expected, abs=1e-6
    )


def test_entropy_of_long_windows():
    """Rounding errors of 1,023 powers of the matrix do not accumulate."""
    found = float(chain_entropy(LONG_CHAIN, 1_024))
    marginal, A = float64(LONG_CHAIN)
    expected = -(marginal @ np.log(marginal))
    for _ in range(1_023):
        expected -= marginal @ np.sum(A * np.log(A), axis=1)
        marginal = marginal @ A
    assert found == pytest.approx(expected / 1_024, rel=1e-6)


def test_entropy_of_one_token():
    """That of the initial distribution."""
    p, _ = float64(CHAIN.source)
    expected = -(p @ np.log(p))
    assert float(chain_entropy(CHAIN.source, 1)) == pytest.approx(expected, abs=1e-6)


def test_the_estimate_of_the_entropy():
    """Within four of its standard errors of the enumerated one."""
    source, p = HIDDEN_MARKOV
    estimate, error = estimate_entropy(source, jax.random.key(8), 4_000, LENGTH)
    nats = -np.log(p) / LENGTH
    expected = p @ nats
    assert float(estimate) == pytest.approx(expected, abs=4 * float(error))
    deviation = np.sqrt(p @ (nats - expected) ** 2 / 4_000)
    assert float(error) == pytest.approx(deviation, rel=0.1)


def test_default_entropy():
    """About 1.6 nats per token for 16 symbols, far from log 16 = 2.77."""
    keys = jax.random.split(jax.random.key(10), 8)
    entropy = jax.vmap(lambda key: sources.random_chain(key, 16).entropy(64))
    found = jax.jit(entropy)(keys)
    assert np.mean(found) == pytest.approx(1.6, abs=0.1)


@BOTH_LONG
def test_random_sources_are_stationary_and_have_full_support(source):
    """initial A = initial, and no entry below its share of the uniform distribution."""
    initial, transition, *_ = float64(source)
    np.testing.assert_allclose(initial @ transition, initial, atol=1e-6)
    for p in float64(source)[1:]:
        assert p.min() >= 0.03 / p.shape[1] * (1.0 - 1e-5)
    assert source.vocab_size == NUM_NON_TEXT + 16


def test_eos_is_the_first_symbol():
    """The source uses the ids from EOS on, and no other."""
    x = np.asarray(sample(CHAIN.source, jax.random.key(2), NUM_SAMPLES, LENGTH))
    assert set(np.unique(x)) == set(IDS) and min(IDS) == EOS


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda key: sources.random_chain(key, 1), "at least 2"),
        (lambda key: sources.random_hidden_markov(key, 1, 4), "at least 2"),
        (lambda key: sources.random_chain(key, 4, concentration=0.0), "concentration"),
        (lambda key: sources.random_chain(key, 4, uniform_share=0.0), "uniform_share"),
        (lambda key: sources.random_chain(key, 4, uniform_share=1.5), "uniform_share"),
    ],
)
def test_constructors_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make(jax.random.key(0))
