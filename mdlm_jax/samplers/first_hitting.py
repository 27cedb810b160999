"""First-hitting sampling: one position a step, at the time at which it is unmasked.

The masked probabilities u_l = 1 - alpha(t_l) at which positions are unmasked are
independent and uniform on [0, 1]. The largest comes first, and the network is given its
time t_l. The distribution is that of infinitely many ancestral steps; Zheng et al.
2024, arXiv:2409.02908, section 4, who draw the same times one after another.
"""

import jax.numpy as jnp

from lm_jax.config import SampleConfig
from mdlm_jax.samplers.base import StepInfo, StepPlan, UnmaskingPolicy, rank
from mdlm_jax.schedule import Schedule, inverse


def policy(cfg: SampleConfig, alpha: Schedule) -> UnmaskingPolicy:
    """Unmasks the masked position with the largest u."""
    del cfg

    def plan(info: StepInfo) -> StepPlan:
        waiting = jnp.where(info.is_masked, info.u, -1.0)
        unmask = info.is_masked & (rank(waiting) == 0)
        u = jnp.clip(jnp.max(waiting, axis=1), 0.0, 1.0)
        return StepPlan(unmask, jnp.zeros_like(unmask), inverse(alpha, 1.0 - u))

    return UnmaskingPolicy(plan, depends_on="random", is_adaptive=True)
