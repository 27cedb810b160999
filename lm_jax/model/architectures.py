"""The network of a configuration: this library's own, or a published one."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool

from lm_jax.config import ModelConfig, require
from lm_jax.model.dit import DiT
from lm_jax.model.gpt import GPT
from lm_jax.model.nll import token_cross_entropy
from lm_jax.model.transformer import (
    NOTHING,
    Backbone,
    Conditioning,
    Transformer,
    as_functions,
)
from lm_jax.types import Params, PRNGKey, TokenNats, Tokens


def make_backbone(cfg: ModelConfig, *, causal: bool) -> Backbone:
    """The network of `cfg` as plain functions of explicit parameters.

    Raises:
      ValueError: the network is published, and does not attend as `causal` says.
    """
    # "auto" that nobody has resolved is the plain formula.
    implementation = "cudnn" if cfg.attention == "cudnn" else "xla"
    if cfg.architecture == "llama":
        return as_functions(Transformer(cfg, causal, implementation), cfg)
    is_causal = cfg.architecture != "dit"
    require(
        causal == is_causal,
        f"ModelConfig.architecture={cfg.architecture!r} attends to "
        f"{'the past alone' if is_causal else 'the whole window'}: choose a family "
        "that does so too",
    )
    module: nn.Module = (GPT if is_causal else DiT)(cfg, implementation)
    backbone = as_functions(module, cfg)

    def nats(
        params: Params,
        tokens: Tokens,
        x: Tokens,
        is_scored: Bool[Array, "B L"],
        conditioning: Conditioning = NOTHING,
        dropout_key: PRNGKey | None = None,
        max_scored: int | None = None,
    ) -> TokenNats:
        del dropout_key, max_scored  # are for training
        nats = token_cross_entropy(backbone.logits(params, tokens, conditioning), x)
        return jnp.where(is_scored, nats, 0.0)

    return backbone._replace(nats=nats)
