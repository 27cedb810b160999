"""The DiT of published masked diffusion models: MDLM and SEDD.

Peebles and Xie 2022, arXiv:2212.09748, with rotary embeddings; as in models/dit.py of
Sahoo et al. 2024, arXiv:2406.07524, and model/transformer.py of Lou et al. 2023,
arXiv:2310.16834. With c = SiLU(MLP(cos, sin of sigma)) and six vectors (shift, scale,
gate, shift', scale', gate') that are linear in c, a layer is

    h + gate * attention(norm(h) * (1 + scale) + shift), then
    h + gate' * MLP(norm(h) * (1 + scale') + shift').

Norms are LayerNorm without bias. The network is read and not trained.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lm_jax.config import ModelConfig, require
from lm_jax.model.attention import Implementation, attend, rope
from lm_jax.model.layers import NUM_MODULATIONS, Hidden
from lm_jax.model.transformer import NOTHING, Conditioning
from lm_jax.types import Logits, Tokens

COND_WIDTH = 128  # width of c in every published checkpoint, C below
NUM_SINUSOIDS = 256  # features of sigma before its MLP


class DiT(nn.Module):
    """tokens, sigma -> logits over the vocabulary."""

    cfg: ModelConfig
    implementation: Implementation

    def setup(self) -> None:
        cfg = self.cfg
        normal = nn.initializers.normal(0.02)
        self.embedding = self.param("embedding", normal, (cfg.vocab_size, cfg.width))
        self.sigma_in = nn.Dense(COND_WIDTH)
        self.sigma_out = nn.Dense(COND_WIDTH)
        self.blocks = [Block(cfg, self.implementation) for _ in range(cfg.num_layers)]
        self.final_norm = _norm(cfg)
        self.final_modulation = nn.Dense(2 * cfg.width)
        self.head = nn.Dense(cfg.vocab_size, dtype=cfg.dtype)

    def __call__(self, tokens: Tokens, conditioning: Conditioning = NOTHING) -> Logits:
        return self.unembed(self.hidden(tokens, conditioning))

    def hidden(self, tokens: Tokens, conditioning: Conditioning = NOTHING) -> Hidden:
        """The input of the head at every position."""
        sigma = conditioning.sigma
        is_ours = conditioning.shift is not None or conditioning.modulation is not None
        require(
            not (is_ours or conditioning.bos_at_start),
            "ModelConfig.architecture='dit' has a time embedding of its own: set "
            "mdlm.time_embedding to 'none' or 'sigma', and mdlm.bos_at_start=False",
        )
        if sigma is None:
            sigma = jnp.zeros(len(tokens))
        c = nn.silu(self.sigma_out(nn.silu(self.sigma_in(sinusoids(sigma)))))
        h = self.embedding[tokens].astype(self.cfg.dtype)
        for block in self.blocks:
            h = block(h, c)
        shift, scale = jnp.split(self.final_modulation(c)[:, None], 2, axis=-1)
        return _modulate(self.final_norm(h), shift, scale)

    def unembed(self, h: Hidden) -> Logits:
        """The logits of hidden states at any number of positions."""
        return self.head(h).astype(jnp.float32)


class Block(nn.Module):
    """One layer; see the equation of the module."""

    cfg: ModelConfig
    implementation: Implementation

    @nn.compact
    def __call__(self, h: Hidden, c: Float[Array, "B C"]) -> Hidden:
        cfg = self.cfg
        flat = nn.Dense(NUM_MODULATIONS * cfg.width, name="modulation")(c)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = jnp.split(
            flat[:, None], NUM_MODULATIONS, axis=-1
        )
        x = _modulate(_norm(cfg, "attention_norm")(h), shift, scale)
        qkv = nn.Dense(3 * cfg.width, use_bias=False, dtype=cfg.dtype, name="qkv")(x)
        heads = (*h.shape[:2], cfg.num_heads, -1)
        q, k, v = (part.reshape(heads) for part in jnp.split(qkv, 3, axis=-1))
        positions = jnp.arange(h.shape[1])
        mixed = attend(
            rope(q, positions),
            rope(k, positions),
            v,
            causal=False,
            implementation=self.implementation,
        ).reshape(h.shape)
        out = nn.Dense(cfg.width, use_bias=False, dtype=cfg.dtype, name="attention_out")
        h = h + gate.astype(h.dtype) * out(mixed)
        x = _modulate(_norm(cfg, "ffn_norm")(h), ffn_shift, ffn_scale)
        up = nn.gelu(nn.Dense(cfg.ffn_width, dtype=cfg.dtype, name="up")(x))
        down = nn.Dense(cfg.width, dtype=cfg.dtype, name="down")(up)
        return h + ffn_gate.astype(h.dtype) * down


def sinusoids(sigma: Float[Array, " B"]) -> Float[Array, "B E"]:
    """[cos, sin] of sigma * 10000^(-i / 128), i = 0 to 127."""
    half = NUM_SINUSOIDS // 2
    frequency = jnp.exp(-math.log(10_000.0) * jnp.arange(half) / half)
    angle = sigma[:, None] * frequency[None]
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def _norm(cfg: ModelConfig, name: str | None = None) -> nn.LayerNorm:
    return nn.LayerNorm(
        epsilon=cfg.norm_epsilon,
        use_bias=False,
        dtype=cfg.dtype,
        use_fast_variance=False,  # published networks have outliers
        name=name,
    )


def _modulate(h: Hidden, shift: Array, scale: Array) -> Hidden:
    return h * (1.0 + scale).astype(h.dtype) + shift.astype(h.dtype)
