"""The choice of a network by its name, and what a published one is not for."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import ar_jax
import mdlm_jax
from lm_jax import run
from lm_jax.config import Config, ModelConfig
from lm_jax.model.architectures import make_backbone
from lm_jax.model.flops import training_flops_per_token
from lm_jax.types import EOS
from mdlm_jax.config import MDLMConfig

FAMILIES = {"gpt2": ar_jax.FAMILY, "gpt_neo": ar_jax.FAMILY, "dit": mdlm_jax.FAMILY}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_training_is_refused(name, tmp_path):
    """Before anything is read or written."""
    cfg = Config(model=ModelConfig(architecture=name))
    for start in (run.train, run.plan):
        with pytest.raises(ValueError, match=f"'{name}' is a published network"):
            start(FAMILIES[name], cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_other_direction_of_attention_is_refused(name):
    """GPT looks back, and DiT at the whole window."""
    with pytest.raises(ValueError, match="choose a family"):
        make_backbone(ModelConfig(architecture=name), causal=name == "dit")


def test_unknown_architecture_is_refused():
    """The message lists those that there are."""
    with pytest.raises(ValueError, match="'llama', 'dit', 'gpt2', 'gpt_neo'"):
        ModelConfig(architecture="mamba")


def test_sigma_is_refused_by_our_own_network():
    """Its time embeddings are vectors."""
    cfg = Config(families={"mdlm": MDLMConfig(time_embedding="sigma")})
    lm = mdlm_jax.FAMILY.make(cfg)

    def score(key):
        init_key, key = jax.random.split(key)
        x = jnp.full((2, cfg.model.length), EOS)
        return lm.log_likelihood(lm.init(init_key), x, key, 2)

    with pytest.raises(ValueError, match="architecture='dit'"):
        jax.eval_shape(score, jax.random.key(0))


def test_flops_count_two_matrices_of_a_plain_mlp():
    """SwiGLU has a third, its gate."""
    ours = ModelConfig(width=8, ffn_width=32, num_layers=1)
    theirs = dataclasses.replace(ours, architecture="gpt2")
    gap = training_flops_per_token(ours, causal=True)
    gap -= training_flops_per_token(theirs, causal=True)
    assert gap == 6 * 8 * 32
