"""The transformer backbone of every family: a Flax module behind plain functions.

RoPE, pre-RMSNorm, SwiGLU, no biases. Families differ only in whether it is causal, and
in the `Conditioning` that they pass.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lm_jax.config import ModelConfig, require
from lm_jax.model.attention import Implementation
from lm_jax.model.kernels import masked_nll
from lm_jax.model.layers import Block, Hidden, RMSNorm, shared_mean_normal
from lm_jax.types import BOS, Logits, NllFn, Params, PRNGKey, Rows, TokenNats, Tokens

VOCABULARY_MULTIPLE = 128  # padding that makes the head's matrix product faster

Cache = tuple[tuple[Float[Array, "B H L K"], Float[Array, "B H L K"]], ...]


class Conditioning(NamedTuple):
    """Inputs of the backbone beside the tokens; None leaves one out.

    Attributes:
      bos_at_start: whether the BOS embedding is added at the first position.
      shift: vector added to every token embedding.
      modulation: shift, scale and gate of both branches of every layer.
      sigma: noise level of the published DiT, -log alpha_t; it is 0 where left out.
    """

    bos_at_start: bool = False
    shift: Float[Array, "B D"] | None = None
    modulation: Float[Array, "B N 6 D"] | None = None
    sigma: Float[Array, " B"] | None = None


NOTHING = Conditioning()


class Backbone(NamedTuple):
    """The backbone as pure functions.

    Attributes:
      init: key -> params.
      logits: (params, tokens, conditioning) -> logits in float32.
      nats: (params, tokens, x, is_scored, conditioning, dropout_key=None,
        max_scored=None) -> -log p(x) where scored, else 0; see lm_jax/model/kernels.py.
      hidden: (params, tokens, conditioning, dropout_key=None) -> input of the head, so
        that the head need not run at every position.
      head: (params, hidden) -> logits; head(hidden(...)) is logits(...).
      init_cache: (batch, length) -> an empty cache of keys and values.
      decode: (params, cache, tokens (B,), position) -> (logits (B, V), cache).
    """

    init: Callable[[PRNGKey], Params]
    logits: Callable[..., Logits]
    nats: Callable[..., TokenNats]
    hidden: Callable[..., Hidden]
    head: Callable[[Params, Hidden], Logits]
    init_cache: Callable[[int, int], Cache]
    decode: Callable[..., tuple[Float[Array, "B V"], Cache]]


def as_functions(module: nn.Module, cfg: ModelConfig) -> Backbone:
    """A network as plain functions of explicit parameters.

    Args:
      module: it has the methods `hidden` and `unembed`, and `decode` if it is causal.
      cfg: its configuration.
    """

    def init(key: PRNGKey) -> Params:
        return module.init(key, jnp.zeros((1, cfg.length), jnp.int32))["params"]

    def logits(
        params: Params,
        tokens: Tokens,
        conditioning: Conditioning = NOTHING,
    ) -> Logits:
        return _apply(module, params, tokens, conditioning)

    def nats(
        params: Params,
        tokens: Tokens,
        x: Tokens,
        is_scored: Bool[Array, "B L"],
        conditioning: Conditioning = NOTHING,
        dropout_key: PRNGKey | None = None,
        max_scored: int | None = None,
    ) -> TokenNats:
        h = hidden(params, tokens, conditioning, dropout_key)
        return masked_nll(
            h.reshape(-1, cfg.width),
            params["embedding" if cfg.tied_head else "head"],
            x.ravel(),
            is_scored.ravel(),
            num_tokens=cfg.vocab_size,
            max_scored=max_scored,
        ).reshape(x.shape)

    def hidden(
        params: Params,
        tokens: Tokens,
        conditioning: Conditioning = NOTHING,
        dropout_key: PRNGKey | None = None,
    ) -> Hidden:
        dropout = {}
        if dropout_key is not None:
            dropout = {"keep_all": False, "rngs": {"dropout": dropout_key}}
        return _apply(module, params, tokens, conditioning, method="hidden", **dropout)

    def head(params: Params, h: Hidden) -> Logits:
        return _apply(module, params, h, method="unembed")

    def init_cache(batch: int, length: int) -> Cache:
        shape = (batch, cfg.num_heads, length, cfg.width // cfg.num_heads)
        return tuple(
            (jnp.zeros(shape, cfg.dtype), jnp.zeros(shape, cfg.dtype))
            for _ in range(cfg.num_layers)
        )

    def decode(
        params: Params, cache: Cache, token: Int[Array, " B"], position: Int[Array, ""]
    ) -> tuple[Float[Array, "B V"], Cache]:
        return _apply(module, params, cache, token, position, method="decode")

    return Backbone(init, logits, nats, hidden, head, init_cache, decode)


def with_dropout(
    nll_fn: NllFn, cfg: ModelConfig, key: PRNGKey, rows: Rows | None
) -> NllFn:
    """`nll_fn` with the dropout of training: each microbatch has its own mask."""
    if not cfg.dropout:
        return nll_fn
    first_row = 0 if rows is None else rows.index[0]
    return partial(nll_fn, dropout_key=jax.random.fold_in(key, first_row))


def _apply(module: nn.Module, params: Params, *args: Any, **kwargs: Any) -> Any:
    return module.apply({"params": params}, *args, **kwargs)


class Transformer(nn.Module):
    """tokens -> logits over the padded vocabulary; the padding has -inf."""

    cfg: ModelConfig
    causal: bool
    implementation: Implementation

    def setup(self) -> None:
        cfg = self.cfg
        size = -(-cfg.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        self.embedding = self.param("embedding", shared_mean_normal, (size, cfg.width))
        if not cfg.tied_head:
            normal = nn.initializers.normal(1.0 / math.sqrt(cfg.width))
            self.head = self.param("head", normal, (size, cfg.width))
        make_block = partial(Block, cfg, self.causal, self.implementation)
        self.blocks = [make_block() for _ in range(cfg.num_layers)]
        self.final_norm = RMSNorm(cfg.norm_epsilon)
        self.dropout = nn.Dropout(cfg.dropout)

    def __call__(
        self,
        tokens: Tokens,
        conditioning: Conditioning = NOTHING,
    ) -> Logits:
        return self.unembed(self.hidden(tokens, conditioning))

    def hidden(
        self,
        tokens: Tokens,
        conditioning: Conditioning = NOTHING,
        keep_all: bool = True,
    ) -> Hidden:
        """The input of the head at every position."""
        require(
            conditioning.sigma is None,
            "time_embedding='sigma' is that of architecture='dit': choose another",
        )
        h = self._embed(tokens)
        if conditioning.bos_at_start:
            h = h.at[:, :1].add(self._embed(jnp.full((1, 1), BOS)))
        if conditioning.shift is not None:
            h = h + conditioning.shift[:, None, :].astype(h.dtype)
        h = self.dropout(h, deterministic=keep_all)
        for layer, block in enumerate(self.blocks):
            modulation = conditioning.modulation
            if modulation is not None:
                modulation = modulation[:, layer]
            h = block(h, modulation, keep_all)
        return self.final_norm(h)

    def decode(
        self, cache: Cache, token: Int[Array, " B"], position: Int[Array, ""]
    ) -> tuple[Float[Array, "B V"], Cache]:
        """Decodes one more token per row; `cache` has the keys and values so far."""
        h = self._embed(token[:, None])
        layers = []
        for block, (k, v) in zip(self.blocks, cache, strict=True):
            h, entry = block.decode(h, k, v, position)
            layers.append(entry)
        return self.unembed(self.final_norm(h))[:, 0], tuple(layers)

    def _embed(self, tokens: Tokens) -> Hidden:
        size = math.sqrt(self.cfg.width)  # norm of a vector with features of unit size
        return (size * self.embedding[tokens]).astype(self.cfg.dtype)

    def unembed(self, h: Hidden) -> Logits:
        """The logits of hidden states at any number of positions."""
        table = self.embedding if self.cfg.tied_head else self.head
        logits = jnp.matmul(
            h.reshape(-1, h.shape[-1]),
            table.T.astype(h.dtype),
            preferred_element_type=jnp.float32,
        )
        is_token = jnp.arange(table.shape[0]) < self.cfg.vocab_size
        logits = jnp.where(is_token[None, :], logits, -jnp.inf)
        return logits.reshape(*h.shape[:2], table.shape[0])
