"""Entropy-bounded sampling: each step unmasks as many positions as a budget allows.

The masked positions are sorted by the entropy H_l of p(x_l | z_t), smallest first. The
longest beginning U of this list is unmasked for which

    sum_{l in U} H_l - max_{l in U} H_l <= gamma,

and always its first position. The left side bounds the total correlation of the tokens
of U, which a step draws independently; Ben-Hamu et al. 2025, arXiv:2505.24857.
"""

import jax.numpy as jnp

from lm_jax.config import SampleConfig
from mdlm_jax.samplers.base import (
    Positions,
    Prediction,
    StepInfo,
    UnmaskingPolicy,
    rank,
)
from mdlm_jax.samplers.ranked import entropy
from mdlm_jax.samplers.threshold import plan
from mdlm_jax.schedule import Schedule


def policy(cfg: SampleConfig, alpha: Schedule) -> UnmaskingPolicy:
    """Unmasks positions within the budget gamma = cfg.entropy_bound, in nats."""
    del alpha

    def choose(
        info: StepInfo, candidates: Positions, prediction: Prediction
    ) -> Positions:
        negative = entropy(prediction)
        place = rank(jnp.where(candidates, negative, -jnp.inf))
        order = jnp.argsort(place, axis=1)
        spent = jnp.where(candidates, -negative, 0.0)
        spent = jnp.take_along_axis(spent, order, axis=1)
        spent = jnp.cumsum(spent, axis=1) - spent  # without the last, the largest
        spent = jnp.take_along_axis(spent, place, axis=1)
        return candidates & ((spent <= cfg.entropy_bound) | (place == 0))

    return UnmaskingPolicy(plan, "visible", choose, is_adaptive=True)
