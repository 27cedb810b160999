"""Threshold sampling: each step unmasks all positions above a confidence threshold.

These are all l with max_v p(x_l = v | z_t) > threshold, and always the most confident;
Wu et al. 2025, arXiv:2505.22618.
"""

import jax.numpy as jnp

from lm_jax.config import SampleConfig
from mdlm_jax.samplers.base import (
    Positions,
    Prediction,
    StepInfo,
    StepPlan,
    UnmaskingPolicy,
    rank,
)
from mdlm_jax.samplers.ranked import confidence
from mdlm_jax.schedule import Schedule


def plan(info: StepInfo) -> StepPlan:
    """Every masked position is a candidate."""
    return StepPlan(info.is_masked, jnp.zeros_like(info.is_masked))


def policy(cfg: SampleConfig, alpha: Schedule) -> UnmaskingPolicy:
    """Unmasks positions whose confidence is above cfg.threshold."""
    del alpha

    def choose(
        info: StepInfo, candidates: Positions, prediction: Prediction
    ) -> Positions:
        log_p = jnp.where(candidates, confidence(prediction), -jnp.inf)
        is_confident = (jnp.exp(log_p) > cfg.threshold) | (rank(log_p) == 0)
        return candidates & is_confident

    return UnmaskingPolicy(plan, "visible", choose, is_adaptive=True)
