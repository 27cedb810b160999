"""Shuffled sampling: a uniformly random order, and a fixed number of tokens per step.

The grid gives the numbers. In `ancestral` they are random too, as every masked position
has a coin of its own; here only the order is. So the NELBO of given numbers is known
from the model alone, and `python -m experiments.step_sizes` finds the best ones. With
one token per step this is `first_hitting` on another grid.
"""

from lm_jax.config import SampleConfig
from mdlm_jax.samplers.base import StepInfo, StepPlan, UnmaskingPolicy
from mdlm_jax.samplers.spread import unmask_first
from mdlm_jax.schedule import Schedule


def plan(info: StepInfo) -> StepPlan:
    """Unmasks the masked positions with the smallest of their uniform numbers."""
    return unmask_first(info, info.u)


def policy(cfg: SampleConfig, alpha: Schedule) -> UnmaskingPolicy:
    """The policy above, which has no settings."""
    del cfg, alpha
    return UnmaskingPolicy(plan, depends_on="random")
