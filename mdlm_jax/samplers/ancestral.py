"""Ancestral sampling: the reverse of the masking process, one step at a time.

    p(z_s = MASK | z_t = MASK) = (1 - alpha_s) / (1 - alpha_t)
    p(z_s = x    | z_t = MASK) = (alpha_s - alpha_t) / (1 - alpha_t) p(x | z_t)

and an unmasked token stays; Sahoo et al. 2024, arXiv:2406.07524, eq. 6.
"""

import jax.numpy as jnp

from lm_jax.config import SampleConfig
from mdlm_jax.samplers.base import (
    StepInfo,
    StepPlan,
    UnmaskingPolicy,
    bernoulli,
    masked_probability,
)
from mdlm_jax.schedule import Schedule


def plan(info: StepInfo) -> StepPlan:
    """Unmasks every masked position independently.

    The token is drawn separately, as one draw over MASK and the vocabulary together
    would lose rare tokens to the rounding of float32.
    """
    stays = (1.0 - info.alpha_s) / masked_probability(info.alpha_t)
    stays = bernoulli(info.unmask_keys, jnp.broadcast_to(stays, info.z_t.shape))
    return StepPlan(info.is_masked & ~stays, jnp.zeros_like(stays))


def policy(cfg: SampleConfig, alpha: Schedule) -> UnmaskingPolicy:
    """The ancestral policy, which has no settings."""
    del cfg, alpha
    return UnmaskingPolicy(plan, depends_on="random")
