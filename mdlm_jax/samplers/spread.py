"""Spread sampling: a fixed order that keeps the tokens of a step far apart.

Positions are sorted by their index with its bits reversed: 0, 4, 2, 6, 1, 5, 3, 7 for
eight tokens. A step unmasks the next positions of this list; the grid gives their
number. Tokens that are close depend on each other most, and are drawn in different
steps. No position is ranked by the network, so the head runs only where it is needed.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lm_jax.config import SampleConfig
from mdlm_jax.samplers.base import StepInfo, StepPlan, UnmaskingPolicy, rank
from mdlm_jax.samplers.ranked import schedule_quota
from mdlm_jax.schedule import Schedule


def reversed_bits(length: int) -> Int[np.ndarray, " L"]:
    """Index of every position with its bits reversed.

    >>> reversed_bits(6).tolist()
    [0, 4, 2, 6, 1, 5]
    """
    width = max(length - 1, 1).bit_length()
    return np.array([int(f"{i:0{width}b}"[::-1], 2) for i in range(length)])


def plan(info: StepInfo) -> StepPlan:
    """Unmasks the masked positions that come first in the fixed order."""
    place = jnp.asarray(reversed_bits(info.z_t.shape[1]), jnp.float32)
    return unmask_first(info, place[None])


def unmask_first(info: StepInfo, place: Float[Array, "#B L"]) -> StepPlan:
    """Unmasks the masked positions with the smallest places, as many as are due."""
    waiting = jnp.where(info.is_masked, -place, -jnp.inf)
    unmask = info.is_masked & (rank(waiting) < schedule_quota(info)[:, None])
    return StepPlan(unmask, jnp.zeros_like(unmask))


def policy(cfg: SampleConfig, alpha: Schedule) -> UnmaskingPolicy:
    """The policy above, which has no settings."""
    del cfg, alpha
    return UnmaskingPolicy(plan, depends_on="visible")
