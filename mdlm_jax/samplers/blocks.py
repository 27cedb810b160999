"""Block sampling: blocks from left to right, each filled by another sampler.

In every block time runs from 1 to 0, while the network is given the time at which the
masked fraction of the whole window is the expected one. After Arriola et al. 2025,
arXiv:2503.09573, whose models are trained on blocks; here it is any model.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Int

from lm_jax.config import SampleConfig
from lm_jax.types import MASK, Tokens
from mdlm_jax.samplers.base import (
    GridPoint,
    Sampler,
    TimeGrid,
    TimeWarp,
    UnmaskingPolicy,
    by_masked_fraction,
    grid_warp,
    interval,
    time_of,
)
from mdlm_jax.schedule import Schedule


def sampler(
    inner: UnmaskingPolicy, cfg: SampleConfig, alpha: Schedule, length: int
) -> Sampler:
    """Fills blocks of cfg.block_size tokens by the inner policy.

    With cfg.num_steps=0 a block has one step for each of its positions.
    """
    size = min(cfg.block_size, length)
    if inner.is_adaptive:
        inner, grid = with_grid_time(inner), leftmost_block_grid(alpha, length, size)
    else:
        warp = grid_warp(cfg, alpha)
        grid = block_grid(alpha, length, size, cfg.num_steps, warp)
    return Sampler(inner, grid, block_size=size)


def block_grid(
    alpha: Schedule,
    length: int,
    size: int,
    num_steps: int,
    warp: TimeWarp = lambda t: t,
) -> TimeGrid:
    """The same number of steps for every block, `num_steps` or more in all."""
    num_blocks = math.ceil(length / size)
    per_block = math.ceil(num_steps / num_blocks) if num_steps else min(size, length)

    def point(i: Int[Array, ""], z_t: Tokens) -> GridPoint:
        _, alpha_t, alpha_s = interval(alpha, i % per_block, per_block, warp)
        region = jnp.arange(length) // size == i // per_block
        region = jnp.broadcast_to(region, z_t.shape)
        return GridPoint(alpha_t, alpha_s, time_of(alpha, z_t), region)

    return TimeGrid(num_blocks * per_block, point)


def leftmost_block_grid(alpha: Schedule, length: int, size: int) -> TimeGrid:
    """Each row works on the block of its leftmost MASK until that block is filled."""
    whole_window = by_masked_fraction(alpha, length)

    def point(i: Int[Array, ""], z_t: Tokens) -> GridPoint:
        leftmost = jnp.argmax(z_t == MASK, axis=1)
        region = jnp.arange(length)[None] // size == (leftmost // size)[:, None]
        return whole_window.point(i, z_t)._replace(region=region)

    return TimeGrid(length, point)


def with_grid_time(policy: UnmaskingPolicy) -> UnmaskingPolicy:
    """The policy, with the time of the grid for the network."""
    return policy._replace(plan=lambda info: policy.plan(info)._replace(t=None))
