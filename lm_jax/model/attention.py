"""Scaled dot-product attention, causal or not, with rotary embeddings."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lm_jax.model.kernels import attention_xla

Implementation = Literal["xla", "cudnn"]


def rope(
    x: Float[Array, "B L H K"], positions: Int[Array, " L"], base: float = 10_000.0
) -> Float[Array, "B L H K"]:
    """Rotates feature pairs (i, i + K/2) by position * base^(-2i/K).

    Su et al. 2021, arXiv:2104.09864: q^T k depends on the distance of the positions
    alone.
    """
    half = x.shape[-1] // 2
    frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, None].astype(jnp.float32) * frequency[None, :]
    cos, sin = jnp.cos(angle)[None, :, None, :], jnp.sin(angle)[None, :, None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


def attend(
    q: Float[Array, "B L H K"],
    k: Float[Array, "B L H K"],
    v: Float[Array, "B L H K"],
    *,
    causal: bool,
    implementation: Implementation,
    span: int | None = None,
) -> Float[Array, "B L H K"]:
    """softmax(q k^T / sqrt(K)) v over the whole window or, if causal, over the past.

    With `span`, a position sees itself and the span - 1 positions before it.
    """
    if implementation == "cudnn" or span is not None:
        local = None if span is None else (span - 1, 0)
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            is_causal=causal,
            local_window_size=local,
            implementation=implementation,
        )
    return _attend_heads_first(q, k, v, causal=causal)


def _attend_heads_first(
    q: Float[Array, "B L H K"],
    k: Float[Array, "B L H K"],
    v: Float[Array, "B L H K"],
    *,
    causal: bool,
) -> Float[Array, "B L H K"]:
    """Attention on (B, H, L, K), a layout that XLA multiplies faster on a CPU."""
    q = q / math.sqrt(q.shape[-1])
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    return jnp.swapaxes(attention_xla(q, k, v, causal), 1, 2)


def attend_cached(
    q: Float[Array, "B H 1 K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    position: Int[Array, ""],
    span: int | None = None,
) -> Float[Array, "B H 1 K"]:
    """Attention of one query at `position` over the keys up to and including it.

    With `span`, over the last `span` of these keys.

    The head axis precedes the position axis, so the keys of a head are contiguous and a
    CPU reads them four times as fast.
    """
    scores = jnp.einsum("bhqk,bhlk->bhql", q, k, preferred_element_type=jnp.float32)
    distance = position - jnp.arange(k.shape[2])
    is_seen = distance >= 0
    if span is not None:
        is_seen &= distance < span
    is_seen = is_seen[None, None, None, :]
    scores = jnp.where(is_seen, scores / math.sqrt(q.shape[-1]), -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bhql,bhlk->bhqk", weights, v)
