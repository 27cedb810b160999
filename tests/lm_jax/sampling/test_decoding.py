"""Logits transforms against NumPy, and the draw against its frequencies."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lm_jax.config import SampleConfig
from lm_jax.keys import fold_in_each, row_keys
from lm_jax.sampling.decoding import (
    chain,
    count_tokens,
    draw,
    full_template,
    make_transform,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
)
from lm_jax.types import MASK
from mdlm_jax.samplers.vicentino2026 import count_penalty

pytestmark = pytest.mark.usefixtures("fast_compilation")

# Rounded, so that there are ties; -inf, as where text_logits rules an id out.
LOGITS = np.random.default_rng(0).normal(size=(40, 3, 12)).round(1).astype(np.float32)
LOGITS[..., :2] = -np.inf


def reference(logits, tau=1.0, k=0, p=1.0, least=0.0):
    """The kept probabilities of one token's logits, by sorting in float64."""
    order = np.argsort(-logits, kind="stable")
    if tau == 0.0:
        return (np.arange(len(logits)) == order[0]).astype(float)
    probability = np.exp((logits - logits.max()).astype(np.float64) / tau)
    if k:
        probability[order[k:]] = 0.0
    probability /= probability.sum()
    order = np.argsort(-probability, kind="stable")
    size = 1 + np.searchsorted(np.cumsum(probability[order]), p - 1e-7)
    probability[order[size:]] = 0.0
    probability[probability < least * probability.max() * (1.0 - 1e-6)] = 0.0
    return probability / probability.sum()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 0.7},
        {"temperature": 1.3, "top_k": 3},
        {"top_k": 100},
        {"top_p": 0.9},
        {"top_p": 1e-6},
        {"temperature": 0.5, "top_k": 5, "top_p": 0.6},
        {"min_p": 0.3},
        {"min_p": 1.0},
        {"temperature": 1.5, "top_k": 8, "top_p": 0.9, "min_p": 0.2},
        {"temperature": 0.0, "top_k": 5, "top_p": 0.6},
    ],
    ids=str,
)
def test_transforms_equal_their_definition(settings):
    """softmax(transform(logits)) = the probabilities that sorting in NumPy leaves."""
    cfg = SampleConfig(**settings)
    probability = jax.nn.softmax(jax.jit(make_transform(cfg))(jnp.asarray(LOGITS)))
    expected = np.apply_along_axis(
        reference, -1, LOGITS, cfg.temperature, cfg.top_k, cfg.top_p, cfg.min_p
    )
    np.testing.assert_array_equal(probability > 0, expected > 0)
    np.testing.assert_allclose(probability, expected, atol=2e-6)


def test_no_setting_is_the_model_itself():
    """The default settings change no bit."""
    transform = make_transform(SampleConfig())
    np.testing.assert_array_equal(transform(jnp.asarray(LOGITS)), LOGITS)


def written(x, vocab_size=12):
    """(B, V): whether each row holds each token."""
    return count_tokens(jnp.asarray(x), vocab_size) > 0


def test_repetition_costs_a_written_token():
    """Positive logits are divided, negative ones multiplied, and others stay."""
    x = np.array([[5, 7, 5, MASK]])
    logits = jnp.array([[1.0, 2.0, -1.0, 4.0, -jnp.inf, 3.0, 1.0, -2.0]])
    penalised = repetition_penalty(1.5, written(x, 8))(logits)
    expected = [[1.0, 2.0, -1.0, 4.0, -np.inf, 2.0, 1.0, -3.0]]
    np.testing.assert_allclose(penalised, expected)


def test_tokens_are_counted_row_by_row():
    """How often each row holds each token; MASK does not count."""
    counts = count_tokens(jnp.array([[5, 7, 5, MASK], [MASK, MASK, 4, 4]]), 8)
    expected = [[0, 0, 0, 0, 0, 2, 0, 1], [0, 0, 0, 0, 2, 0, 0, 0]]
    np.testing.assert_array_equal(counts, expected)


def test_the_study_divides_negative_logits_too():
    """logits / min(1.3^count, 5): 1.3^7 > 5."""
    counts = jnp.array([[0, 1, 2, 7]])
    logits = count_penalty(1.3, counts)(jnp.array([[2.0, -2.0, 2.0, -2.0]]))
    np.testing.assert_allclose(logits, [[2.0, -2 / 1.3, 2 / 1.69, -0.4]], rtol=1e-6)


@pytest.mark.parametrize("tau", [0.0, 0.8])
def test_an_annealed_temperature_is_a_temperature(tau):
    """A share of tau, row by row, and at 0 still greedy."""
    share = jnp.array([1.0, 0.5, 1e-30])
    annealed = make_transform(SampleConfig(temperature=tau), share[:, None, None])
    logits = jnp.asarray(LOGITS[:3])
    for row in range(3):
        alone = temperature(tau * float(share[row]))(logits[row])
        np.testing.assert_allclose(
            jax.nn.softmax(annealed(logits)[row]), jax.nn.softmax(alone), atol=1e-6
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"top_k": 4},
        {"top_p": 0.8},
        {"min_p": 0.25},
        {"repetition_penalty": 1.4},
        {"repetition_penalty": 1.3, "temperature": 0.9, "top_k": 7, "top_p": 0.9},
    ],
    ids=str,
)
def test_transforms_equal_those_of_transformers(settings):
    """softmax(transform(logits)) is that of Hugging Face's processors, in its order."""
    reason = "needs the extra 'hf': pip install -e '.[hf]'"
    torch = pytest.importorskip("torch", reason=reason)
    hf = pytest.importorskip("transformers", reason=reason)
    cfg = SampleConfig(**settings)
    rng = np.random.default_rng(1)  # without ties, which libraries break differently
    logits = rng.normal(size=(50, 12)).astype(np.float32)
    x = rng.integers(5, 12, (50, 4))
    processors = hf.LogitsProcessorList()
    if cfg.repetition_penalty != 1.0:
        penalty = hf.RepetitionPenaltyLogitsProcessor(cfg.repetition_penalty)
        processors.append(penalty)
    if cfg.temperature != 1.0:
        processors.append(hf.TemperatureLogitsWarper(cfg.temperature))
    if cfg.top_k:
        processors.append(hf.TopKLogitsWarper(cfg.top_k))
    if cfg.top_p < 1.0:
        processors.append(hf.TopPLogitsWarper(cfg.top_p))
    if cfg.min_p:
        processors.append(hf.MinPLogitsWarper(cfg.min_p))
    theirs = processors(torch.tensor(x), torch.tensor(logits)).numpy()
    penalise = repetition_penalty(cfg.repetition_penalty, written(x))
    ours = make_transform(cfg)(penalise(jnp.asarray(logits)))
    np.testing.assert_allclose(
        jax.nn.softmax(ours), jax.nn.softmax(jnp.asarray(theirs)), atol=1e-6
    )


def test_ties_go_to_the_lowest_ids():
    """Of equal logits greedy keeps one, top-k just k, top-p no more than it needs."""
    equal = jnp.zeros((2, 10))
    kept = {
        "greedy": temperature(0.0)(equal) > -jnp.inf,
        "top_k": top_k(3)(equal) > -jnp.inf,
        "top_p": top_p(0.45)(equal) > -jnp.inf,
    }
    for name, size in {"greedy": 1, "top_k": 3, "top_p": 5}.items():
        np.testing.assert_array_equal(kept[name], [np.arange(10) < size] * 2, name)


@pytest.mark.parametrize("tau", [1e-39, 2e-38, 1e-6])
def test_a_tiny_temperature_is_greedy(tau):
    """tau -> 0 is the argmax, and never a NaN, though logits / tau overflows."""
    logits = jnp.asarray([[50.0, 80.0, -30.0, 79.0]])
    probability = jax.nn.softmax(temperature(tau)(logits))
    np.testing.assert_array_equal(probability, [[0.0, 1.0, 0.0, 0.0]])


def test_transforms_apply_from_the_first_to_the_last():
    """Cutting after cooling keeps fewer tokens than cutting before it."""
    logits = jnp.log(jnp.asarray([0.5, 0.3, 0.15, 0.05]))
    cold_then_cut = chain(temperature(0.25), top_p(0.7))(logits)
    cut_then_cold = chain(top_p(0.7), temperature(0.25))(logits)
    assert np.sum(np.isfinite(cold_then_cut)) == 1
    assert np.sum(np.isfinite(cut_then_cold)) == 2


def test_draws_have_their_probabilities():
    """x ~ softmax(logits): chi-squared over 20,000 draws, and nothing ruled out."""
    p = np.array([0.0, 0.5, 0.25, 0.125, 0.1, 0.025])
    keys = jax.random.split(jax.random.key(0), (5_000, 4))
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(p)), (5_000, 4, 6))
    counts = np.bincount(np.ravel(draw(keys, logits)), minlength=6)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], 20_000 * p[1:]).pvalue > 1e-3


def test_draws_reach_rare_tokens():
    """The noise is `mode="high"`: in "low" no token is drawn below about 1e-7."""
    logits = jnp.zeros((50, 1_000))

    @partial(jax.jit, static_argnums=0)
    def draw_by(one):
        return one(jax.random.split(jax.random.key(1), 50), logits)

    high, low = (
        draw_by(jax.vmap(partial(jax.random.categorical, mode=mode)))
        for mode in ("high", "low")
    )
    np.testing.assert_array_equal(draw_by(draw), high)
    assert np.any(high != low)


def test_a_draw_depends_on_its_own_key_only():
    """The token of a row is the same in any company."""
    logits = jax.random.normal(jax.random.key(3), (6, 50))

    def draw_from(first):
        rows = row_keys(jax.random.key(2), jnp.arange(first, 6))
        return draw(fold_in_each(rows, jnp.int32(7)), logits[first:])

    np.testing.assert_array_equal(draw_from(0)[4:], draw_from(4))


def test_a_template_has_the_shape_of_the_samples():
    """Nothing given is all MASK; another shape is refused, and both are named."""
    assert np.all(full_template(None, (2, 3)) == MASK)
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(4, 3\)"):
        full_template(np.full((2, 3), MASK, np.int32), (4, 3))
