"""The layers of the backbone: block, norm, linear layer and embedding initializer."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lm_jax.config import ModelConfig
from lm_jax.model.attention import Implementation, attend, attend_cached, rope
from lm_jax.model.kernels import matmul_f32_grad
from lm_jax.types import PRNGKey

NUM_MODULATIONS = 6  # shift, scale and gate, of the attention and of the feed-forward

Hidden = Float[Array, "B L D"]


class Block(nn.Module):
    """h + attention(norm(h)), then h + feed-forward(norm(h))."""

    cfg: ModelConfig
    causal: bool
    implementation: Implementation

    def setup(self) -> None:
        cfg = self.cfg
        inward = nn.initializers.lecun_normal()
        depth = 2.0 * cfg.num_layers  # branches that add to the residual stream
        outward = nn.initializers.variance_scaling(1 / depth, "fan_in", "normal")
        self.attention_norm = RMSNorm(cfg.norm_epsilon)
        self.qkv = Linear(3 * cfg.width, inward, cfg.dtype)
        self.attention_out = Linear(cfg.width, outward, cfg.dtype)
        self.ffn_norm = RMSNorm(cfg.norm_epsilon)
        self.gate = Linear(cfg.ffn_width, inward, cfg.dtype)
        self.up = Linear(cfg.ffn_width, inward, cfg.dtype)
        self.down = Linear(cfg.width, outward, cfg.dtype)
        self.dropout = nn.Dropout(cfg.dropout)

    def __call__(
        self,
        h: Hidden,
        modulation: Float[Array, "B 6 D"] | None = None,
        keep_all: bool = True,
    ) -> Hidden:
        attention, ffn = _split(modulation)
        q, k, v = self._heads(
            attention.enter(self.attention_norm(h)), jnp.arange(h.shape[1])
        )
        mixed = attend(q, k, v, causal=self.causal, implementation=self.implementation)
        branch = self.attention_out(mixed.reshape(h.shape))
        h = h + attention.leave(self.dropout(branch, deterministic=keep_all))
        branch = self._feed_forward(ffn.enter(self.ffn_norm(h)))
        return h + ffn.leave(self.dropout(branch, deterministic=keep_all))

    def decode(
        self,
        h: Float[Array, "B 1 D"],
        k_cache: Float[Array, "B H L K"],
        v_cache: Float[Array, "B H L K"],
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B 1 D"], tuple[Array, Array]]:
        """The same at one position; and the caches, which hold it from now on."""
        here = self._heads(self.attention_norm(h), position[None])
        q, k, v = (jnp.swapaxes(x, 1, 2) for x in here)
        update = partial(jax.lax.dynamic_update_slice_in_dim, axis=2)
        k = update(k_cache, k, start_index=position)
        v = update(v_cache, v, start_index=position)
        mixed = attend_cached(q, k, v, position)
        h = h + self.attention_out(mixed.reshape(h.shape))
        return h + self._feed_forward(self.ffn_norm(h)), (k, v)

    def _heads(self, h: Hidden, positions: Int[Array, " L"]) -> tuple[Array, ...]:
        # A split, because its gradient is a single concatenation.
        parts = jnp.split(self.qkv(h), 3, axis=-1)
        shape = (*h.shape[:2], self.cfg.num_heads, -1)
        q, k, v = (part.reshape(shape) for part in parts)
        base = self.cfg.rope_base
        return rope(q, positions, base), rope(k, positions, base), v

    def _feed_forward(self, h: Hidden) -> Hidden:
        return self.down(nn.silu(self.gate(h)) * self.up(h))


def shared_mean_normal(
    key: PRNGKey, shape: tuple[int, int], dtype: Any = jnp.float32
) -> Float[Array, "V D"]:
    """Embedding initializer: rows N(mean, I / D) with one shared mean ~ N(0, I / D).

    Tokens of one class (names, say) learn a common direction; the part that separates
    them must begin at the size of the residual stream, or the model learns to copy
    late. With rotary embeddings and no biases, only the shared mean lets queries and
    keys attend to a distance regardless of the token there.
    """
    key_point, key_rows = jax.random.split(key)
    point = jax.random.normal(key_point, (1, shape[1]), dtype)
    rows = point + jax.random.normal(key_rows, shape, dtype)
    return rows / math.sqrt(shape[1])


class Linear(nn.Module):
    """x W over (B * L, D): flat rows avoid a transpose in XLA's backward pass."""

    features: int
    kernel_init: Callable[..., Array]
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B L I"]) -> Float[Array, "B L O"]:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        flat = matmul_f32_grad(x.reshape(-1, x.shape[-1]).astype(self.dtype), kernel)
        return flat.reshape(*x.shape[:2], self.features)


class RMSNorm(nn.Module):
    """x / rms(x) * scale, in float32; Zhang and Sennrich 2019, arXiv:1910.07467."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.epsilon)
        return (y * scale[None, None, :]).astype(x.dtype)


class Modulation(NamedTuple):
    """Modulation of a branch: input h * (1 + scale) + shift, output * (1 + gate)."""

    shift: Float[Array, "B 1 D"] | None = None
    scale: Float[Array, "B 1 D"] | None = None
    gate: Float[Array, "B 1 D"] | None = None

    def enter(self, h: Hidden) -> Hidden:
        """h * (1 + scale) + shift, the input of the branch."""
        if self.shift is None or self.scale is None:
            return h
        return h * (1.0 + self.scale).astype(h.dtype) + self.shift.astype(h.dtype)

    def leave(self, branch: Hidden) -> Hidden:
        """branch * (1 + gate), which is added to the residual stream."""
        if self.gate is None:
            return branch
        return branch * (1.0 + self.gate).astype(branch.dtype)


def _split(modulation: Array | None) -> tuple[Modulation, Modulation]:
    """The modulations of the attention and of the feed-forward, three vectors each."""
    if modulation is None:
        return Modulation(), Modulation()
    parts = [modulation[:, i, None, :] for i in range(NUM_MODULATIONS)]
    return Modulation(*parts[:3]), Modulation(*parts[3:])
