"""The published DiT: its arithmetic against NumPy, and its use by masked diffusion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_networks import MDLM, SEDD, dit_logits, dit_tensors, log_softmax

import mdlm_jax
from lm_jax.config import Config, SampleConfig
from lm_jax.convert.dit import from_tensors
from lm_jax.model.architectures import make_backbone
from lm_jax.model.nll import token_cross_entropy
from lm_jax.model.transformer import Conditioning
from lm_jax.types import BOS, EOS, MASK
from mdlm_jax.time_embedding import sigma

THEIR_MASK = 11  # published id; texts are 0 to 9, and <|endoftext|> is 10
TENSORS = dit_tensors()
THEIRS = np.array([[3, 11, 11, 0, 10, 9, 11, 2], [11, 11, 11, 11, 5, 5, 1, 11]])


def ours(ids):
    """Our ids of published ones."""
    table = np.array([*range(5, 15), EOS, MASK])
    return jnp.asarray(table[ids], jnp.int32)


def over_their_texts(logits):
    """Our logits in the order of the published ids of text, <|endoftext|> last."""
    return np.concatenate([logits[..., 5:15], logits[..., EOS : EOS + 1]], axis=-1)


@pytest.fixture(scope="module")
def network():
    changes, params = from_tensors(TENSORS, MDLM)
    cfg = Config.from_dict(changes)
    params = jax.tree.map(jnp.asarray, params["backbone"])
    return make_backbone(cfg.model, causal=False), params


@pytest.fixture(scope="module")
def sedd():
    """(language model, params) of a network that is conditioned on sigma."""
    changes, params = from_tensors(dit_tensors(prefix=""), SEDD)
    lm = mdlm_jax.FAMILY.make(Config.from_dict(changes))
    return lm, jax.tree.map(jnp.asarray, params)


def test_logits_are_those_of_the_equations(network):
    """At every sigma; without one it is 0, as MDLM without time conditioning has it."""
    backbone, params = network
    for noise in (None, np.array([0.3, 6.9], np.float32)):
        conditioning = Conditioning(sigma=None if noise is None else jnp.array(noise))
        found = backbone.logits(params, ours(THEIRS), conditioning)
        rates = np.zeros(2) if noise is None else noise
        expected = np.stack(
            [dit_logits(TENSORS, *row) for row in zip(THEIRS, rates, strict=True)]
        )
        np.testing.assert_allclose(
            over_their_texts(np.asarray(found)), expected[..., :11], atol=2e-5
        )


def test_head_of_hidden_is_logits(network):
    """And `nats` is the cross-entropy of these logits, where it is asked for."""
    backbone, params = network
    z = ours(THEIRS)
    logits = backbone.logits(params, z)
    hidden = backbone.hidden(params, z)
    np.testing.assert_allclose(backbone.head(params, hidden), logits, atol=1e-5)
    x = jnp.full(z.shape, EOS)
    nats = backbone.nats(params, z, x, z == MASK)
    expected = jnp.where(z == MASK, token_cross_entropy(logits, x), 0.0)
    np.testing.assert_allclose(nats, expected, atol=1e-5)


def test_sigma_is_that_of_the_published_schedule():
    """-log(1 - (1 - eps) t), eps = 0.001, where the share (1 - t) is unmasked."""
    t = np.linspace(0.0, 1.0, 11, dtype=np.float32)
    expected = -np.log1p(-(1 - 1e-3) * t.astype(float))
    np.testing.assert_allclose(sigma(jnp.asarray(1.0 - t)), expected, rtol=1e-4)


def test_likelihood_hears_sigma_and_sums_to_one(sedd):
    """log p(x_2 | x_1) is exact: one mask of two tokens, at t = 1/2. Nothing but text
    has probability, and every text is counted once."""
    lm, params = sedd
    ids = np.arange(11)
    x = ours(np.stack([np.full(11, 3), ids], axis=1))
    given = jnp.ones(11, jnp.int32)
    found, _ = lm.log_likelihood(params, x, jax.random.key(0), 2, given)
    noise = -np.log1p(-(1 - 1e-3) * 0.5)
    logits = dit_logits(dit_tensors(), np.array([3, THEIR_MASK]), noise)[1, :11]
    np.testing.assert_allclose(found, log_softmax(logits), atol=2e-5)
    assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-5)


def test_scale_by_sigma_cancels(network):
    """SEDD's published output, normalised over text, is the prediction without it."""
    backbone, params = network
    noise, is_masked = 0.7, THEIRS[0] == THEIR_MASK
    scores = dit_logits(TENSORS, THEIRS[0], noise)
    scores -= np.log(np.expm1(noise)) + np.log(scores.shape[-1] - 1)
    scores[np.arange(len(scores)), THEIRS[0]] = 0.0
    conditioning = Conditioning(sigma=jnp.array([noise]))
    logits = backbone.logits(params, ours(THEIRS[:1]), conditioning)
    found = over_their_texts(np.asarray(logits[0]))
    np.testing.assert_allclose(
        log_softmax(found[is_masked]),
        log_softmax(scores[is_masked, :THEIR_MASK]),
        atol=2e-5,
    )


def test_samples_are_text(sedd):
    """Without MASK, PAD, BOS or UNK, by the samplers of this library."""
    lm, params = sedd
    cfg = SampleConfig(num_steps=4, sampler="ancestral")
    found = lm.sample(params, jax.random.key(1), (3, 12), cfg).tokens
    assert np.min(found) >= EOS and np.max(found) < 15


@pytest.mark.parametrize(
    "conditioning",
    [Conditioning(bos_at_start=True), Conditioning(shift=jnp.ones((2, 16)))],
)
def test_conditioning_of_our_own_network_is_refused(network, conditioning):
    """It would be left out in silence."""
    backbone, params = network
    with pytest.raises(ValueError, match=r"time_embedding to 'none' or 'sigma'"):
        backbone.logits(params, ours(THEIRS), conditioning)


def test_no_input_is_bos(network):
    """BOS and UNK have no embedding, and PAD has that of EOS."""
    table = np.asarray(network[1]["embedding"])
    assert not table[[BOS, 2]].any()
    np.testing.assert_array_equal(table[0], table[EOS])
