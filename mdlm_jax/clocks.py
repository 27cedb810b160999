"""Clocks: which times a sampler visits, and where it writes meanwhile."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from lm_jax.types import MASK, Times, Tokens
from mdlm_jax.rules import Scalar, Where
from mdlm_jax.schedule import Schedule, inverse


class Moment(NamedTuple):
    """Step i of a clock.

    Attributes:
      alpha_t, alpha_s: shares of clean tokens before and after the step.
      t: the time that the network is told, row by row.
      region: where text may be written.
    """

    alpha_t: Scalar
    alpha_s: Scalar
    t: Times
    region: Where


Warp = Callable[[Scalar], Scalar]


class Clock(NamedTuple):
    """How long a sampler takes.

    Attributes:
      num_steps: after so many steps nothing is masked.
      moment: (i, z_t) -> the moment of step i.
    """

    num_steps: int
    moment: Callable[[Int[Array, ""], Tokens], Moment]


def even(alpha: Schedule, num_steps: int, warp: Warp = lambda t: t) -> Clock:
    """t_i = 1 - i / T everywhere in the window; a warp may bend it."""

    def moment(i: Int[Array, ""], z_t: Tokens) -> Moment:
        t, alpha_t, alpha_s = _interval(alpha, i, num_steps, warp)
        everywhere = jnp.ones(z_t.shape, bool)
        return Moment(alpha_t, alpha_s, jnp.full(z_t.shape[0], t), everywhere)

    return Clock(num_steps, moment)


def plateau(alpha: Schedule, t_on: float, t_off: float, alpha_on: float) -> Warp:
    """Time stands still at alpha_on while t_on >= t >= t_off, and else runs evenly.

    Wang et al. 2025, arXiv:2503.00307 (ReMDM-loop).
    """

    def warp(t: Scalar) -> Scalar:
        still = inverse(alpha, jnp.float32(alpha_on))
        before = still + (1.0 - still) * (t - t_on) / (1.0 - t_on)
        after = still * t / t_off
        return jnp.where(t > t_on, before, jnp.where(t < t_off, after, still))

    return warp


def by_share(alpha: Schedule, length: int) -> Clock:
    """As many steps as it takes; the network is told the time at which so many tokens
    are expected to be masked."""

    def moment(i: Int[Array, ""], z_t: Tokens) -> Moment:
        _, alpha_t, alpha_s = _interval(alpha, i, length)
        everywhere = jnp.ones(z_t.shape, bool)
        return Moment(alpha_t, alpha_s, time_of(alpha, z_t), everywhere)

    return Clock(length, moment)


def blocks(alpha: Schedule, length: int, size: int, num_steps: int) -> Clock:
    """Blocks from left to right, in each of which time runs from 1 to 0.

    The network is told the time of the whole window, as with `by_share`. After Arriola
    et al. 2025, arXiv:2503.09573, whose models are trained on blocks; here any model.

    Args:
      alpha, length, size: the schedule, and the tokens of a window and of a block.
      num_steps: of the whole window; 0 is one step per token.
    """
    num_blocks = math.ceil(length / size)
    per_block = math.ceil(num_steps / num_blocks) if num_steps else min(size, length)

    def moment(i: Int[Array, ""], z_t: Tokens) -> Moment:
        _, alpha_t, alpha_s = _interval(alpha, i % per_block, per_block)
        region = jnp.arange(length) // size == i // per_block
        region = jnp.broadcast_to(region, z_t.shape)
        return Moment(alpha_t, alpha_s, time_of(alpha, z_t), region)

    return Clock(num_blocks * per_block, moment)


def blocks_by_share(alpha: Schedule, length: int, size: int) -> Clock:
    """Each row writes in the block of its leftmost MASK, for as long as it takes."""

    def moment(i: Int[Array, ""], z_t: Tokens) -> Moment:
        now = by_share(alpha, length).moment(i, z_t)
        leftmost = jnp.argmax(z_t == MASK, axis=1)
        region = jnp.arange(length)[None] // size == (leftmost // size)[:, None]
        return now._replace(region=region)

    return Clock(length, moment)


def time_of(alpha: Schedule, z_t: Tokens) -> Times:
    """t at which alpha(t) is the share of tokens that are clean."""
    return inverse(alpha, jnp.mean(z_t != MASK, axis=1, dtype=jnp.float32))


def _interval(
    alpha: Schedule, i: Int[Array, ""], num_steps: int, warp: Warp = lambda t: t
) -> tuple[Scalar, Scalar, Scalar]:
    """t, alpha(t) and alpha(s) of step i of T; exact at the end, which opens all."""
    t = warp((num_steps - i) / num_steps)
    s = (num_steps - i - 1) / num_steps
    return t, alpha(t), jnp.where(s == 0.0, 1.0, alpha(warp(s)))
