"""GPT-2 and GPT-Neo, published autoregressive models.

Radford et al. 2019, and Black et al. 2021, doi:10.5281/zenodo.5297715, as in
modeling_gpt2.py and modeling_gpt_neo.py of transformers: learned positions, LayerNorm
before each branch, tanh-GELU, tied head. A layer is h + attention(norm(h)), then
h + MLP(norm(h)). GPT-Neo differs in three ways: scores q^T k without 1 / sqrt(K), no
biases of q, k and v, and every second layer sees the last 256 positions alone. The
networks are read and not trained.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lm_jax.config import ModelConfig
from lm_jax.model.attention import Implementation, attend, attend_cached
from lm_jax.model.layers import Hidden
from lm_jax.model.transformer import NOTHING, Cache, Conditioning
from lm_jax.types import Logits, Tokens

LOCAL_SPAN = 256  # positions that a local layer sees, in every published GPT-Neo


class GPT(nn.Module):
    """tokens -> logits over the vocabulary."""

    cfg: ModelConfig
    implementation: Implementation

    def setup(self) -> None:
        cfg = self.cfg
        normal = nn.initializers.normal(0.02)
        self.embedding = self.param("embedding", normal, (cfg.vocab_size, cfg.width))
        self.positions = self.param("positions", normal, (cfg.length, cfg.width))
        make_block = partial(Block, cfg, self.implementation)
        if cfg.architecture == "gpt2":
            self.blocks = [make_block() for _ in range(cfg.num_layers)]
        else:
            neo = partial(
                make_block,
                has_qkv_bias=False,
                query_scale=math.sqrt(cfg.width // cfg.num_heads),
            )
            spans = [LOCAL_SPAN if i % 2 else None for i in range(cfg.num_layers)]
            self.blocks = [neo(span=span) for span in spans]
        self.final_norm = _norm(cfg)

    def __call__(self, tokens: Tokens, conditioning: Conditioning = NOTHING) -> Logits:
        return self.unembed(self.hidden(tokens, conditioning))

    def hidden(self, tokens: Tokens, conditioning: Conditioning = NOTHING) -> Hidden:
        """The input of the head at every position."""
        del conditioning  # is for diffusion
        h = self.embedding[tokens] + self.positions[None, : tokens.shape[1]]
        h = h.astype(self.cfg.dtype)
        for block in self.blocks:
            h = block(h)
        return self.final_norm(h)

    def decode(
        self, cache: Cache, token: Int[Array, " B"], position: Int[Array, ""]
    ) -> tuple[Float[Array, "B V"], Cache]:
        """Decodes one more token per row; `cache` has the keys and values so far."""
        h = self.embedding[token] + self.positions[position][None]
        h = h[:, None].astype(self.cfg.dtype)
        layers = []
        for block, (k, v) in zip(self.blocks, cache, strict=True):
            h, entry = block.decode(h, k, v, position)
            layers.append(entry)
        return self.unembed(self.final_norm(h))[:, 0], tuple(layers)

    def unembed(self, h: Hidden) -> Logits:
        """The logits of hidden states at any number of positions."""
        table = self.embedding.T.astype(h.dtype)
        return jnp.matmul(h, table, preferred_element_type=jnp.float32)


class Block(nn.Module):
    """One layer; see the equation of the module.

    Attributes:
      cfg, implementation: configuration, and attention kernel.
      has_qkv_bias: whether queries, keys and values have a bias.
      query_scale: factor on the queries, beside 1 / sqrt(K).
      span: positions that a position sees, itself included; None is the whole past.
    """

    cfg: ModelConfig
    implementation: Implementation
    has_qkv_bias: bool = True
    query_scale: float = 1.0
    span: int | None = None

    def setup(self) -> None:
        cfg = self.cfg
        dense = partial(nn.Dense, dtype=cfg.dtype)
        self.attention_norm, self.ffn_norm = _norm(cfg), _norm(cfg)
        self.qkv = dense(3 * cfg.width, use_bias=self.has_qkv_bias)
        self.attention_out = dense(cfg.width)
        self.up, self.down = dense(cfg.ffn_width), dense(cfg.width)

    def __call__(self, h: Hidden) -> Hidden:
        q, k, v = self._heads(h)
        mixed = attend(
            q, k, v, causal=True, implementation=self.implementation, span=self.span
        )
        return self._leave(h, mixed.reshape(h.shape))

    def decode(
        self,
        h: Float[Array, "B 1 D"],
        k_cache: Float[Array, "B H L K"],
        v_cache: Float[Array, "B H L K"],
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B 1 D"], tuple[Array, Array]]:
        """The same at one position; and the caches, which hold it from now on."""
        q, k, v = (jnp.swapaxes(x, 1, 2) for x in self._heads(h))
        update = partial(jax.lax.dynamic_update_slice_in_dim, axis=2)
        k = update(k_cache, k, start_index=position)
        v = update(v_cache, v, start_index=position)
        mixed = attend_cached(q, k, v, position, self.span)
        return self._leave(h, mixed.reshape(h.shape)), (k, v)

    def _heads(self, h: Hidden) -> tuple[Array, ...]:
        parts = jnp.split(self.qkv(self.attention_norm(h)), 3, axis=-1)
        heads = (*h.shape[:2], self.cfg.num_heads, -1)
        q, k, v = (part.reshape(heads) for part in parts)
        return self.query_scale * q, k, v

    def _leave(self, h: Hidden, mixed: Hidden) -> Hidden:
        h = h + self.attention_out(mixed)
        return h + self.down(nn.gelu(self.up(self.ffn_norm(h))))


def _norm(cfg: ModelConfig) -> nn.LayerNorm:
    return nn.LayerNorm(
        epsilon=cfg.norm_epsilon,
        dtype=cfg.dtype,
        use_fast_variance=False,  # published networks have outliers
    )
