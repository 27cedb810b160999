"""GPT-2 and GPT-Neo: their arithmetic against NumPy, and their use by AR."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_networks import (
    GPT2,
    GPT_NEO,
    gpt2_tensors,
    gpt_logits,
    gpt_neo_tensors,
    log_softmax,
)

import ar_jax
from lm_jax.config import Config
from lm_jax.convert.gpt import from_tensors
from lm_jax.model.architectures import make_backbone
from lm_jax.types import BOS, EOS

END = 10  # published id of <|endoftext|>; texts are 0 to 9
KINDS = {"gpt2": (gpt2_tensors(), GPT2), "gpt_neo": (gpt_neo_tensors(), GPT_NEO)}


def ours(ids):
    """Our ids of published ones."""
    return jnp.asarray(np.where(ids == END, EOS, ids + 5), jnp.int32)


def over_their_ids(logits):
    """Our logits in the order of the published ids."""
    return np.concatenate([logits[..., 5:15], logits[..., EOS : EOS + 1]], axis=-1)


@pytest.fixture(scope="module", params=sorted(KINDS))
def network(request):
    """(published tensors, our config, backbone, params)."""
    tensors, settings = KINDS[request.param]
    changes, params = from_tensors(tensors, settings)
    cfg = Config.from_dict(changes)
    params = jax.tree.map(jnp.asarray, params)
    return tensors, cfg, make_backbone(cfg.model, causal=True), params


def rows_of(cfg):
    """Two rows of published ids over all positions."""
    return np.random.default_rng(1).integers(0, END + 1, (2, cfg.model.length))


def test_logits_are_those_of_the_equations(network):
    """GPT-Neo at 300 positions, of which a local layer sees 256."""
    tensors, cfg, backbone, params = network
    ids = rows_of(cfg)
    found = np.asarray(backbone.logits(params["backbone"], ours(ids)))
    expected = np.stack([gpt_logits(tensors, row) for row in ids])
    np.testing.assert_allclose(over_their_ids(found), expected, atol=1e-4)


def test_cache_changes_nothing(network):
    """Decoding position by position gives the logits of the whole window."""
    _, cfg, backbone, params = network
    params, tokens = params["backbone"], ours(rows_of(cfg))

    @jax.jit
    def decode_all(params, tokens):
        step = partial(backbone.decode, params)

        def one(cache, inputs):
            logits, cache = step(cache, *inputs)
            return cache, logits

        inputs = (tokens.T, jnp.arange(tokens.shape[1]))
        _, logits = jax.lax.scan(one, backbone.init_cache(*tokens.shape), inputs)
        return jnp.swapaxes(logits, 0, 1)

    np.testing.assert_allclose(
        decode_all(params, tokens), backbone.logits(params, tokens), atol=1e-4
    )


def test_likelihood_begins_with_endoftext(network):
    """log p(x) is the chain rule of the published network after <|endoftext|>."""
    tensors, cfg, _, params = network
    lm = ar_jax.FAMILY.make(cfg)
    ids = np.array([4, 0, END, 9, 9])
    found, _ = lm.log_likelihood(params, ours(ids[None]), jax.random.key(0), 2)
    log_p = log_softmax(gpt_logits(tensors, np.array([END, *ids[:-1]])))
    expected = log_p[np.arange(len(ids)), ids].sum()
    assert float(found[0]) == pytest.approx(expected, abs=1e-4)


def test_probabilities_of_all_texts_sum_to_one(network):
    """Over all texts of two tokens: <|endoftext|> is one of them, once, as EOS."""
    _, cfg, _, params = network
    lm = ar_jax.FAMILY.make(cfg)
    texts = np.array(list(itertools.product(range(END + 1), repeat=2)))
    found, _ = lm.log_likelihood(params, ours(texts), jax.random.key(0), 2)
    assert float(np.exp(found).sum()) == pytest.approx(1.0, abs=1e-5)


def test_bos_is_endoftext(network):
    """The same embedding, as the published models have one id for both."""
    table = np.asarray(network[3]["backbone"]["embedding"])
    np.testing.assert_array_equal(table[BOS], table[EOS])
    np.testing.assert_array_equal(table[[0, 2, 3]], 0.0)
