"""Ranked sampling: each step unmasks the positions with the largest scores.

A quota gives their number; ties go to the left. After Chang et al. 2022,
arXiv:2202.04200. Scores use the probabilities p of the model before temperature and
truncation, so that they also rank positions in greedy decoding:

    confidence   max_v p(x_l = v | z_t)
    margin       p of the likeliest token - p of the second; Kim et al. 2025,
                 arXiv:2502.06768, section 4
    entropy      sum_v p log p, the negative entropy
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lm_jax.config import SampleConfig
from lm_jax.language_model import NO_TRUNCATION, Preset
from mdlm_jax.samplers.base import (
    Positions,
    Prediction,
    StepInfo,
    StepPlan,
    UnmaskingPolicy,
    rank,
)
from mdlm_jax.schedule import Schedule

Score = Callable[[Prediction], Float[Array, "B L"]]
NumToUnmask = Callable[[StepInfo], Int[Array, " B"]]

# Confidence at a low temperature, one token per step: near the likeliest text.
LOW_TEMPERATURE = Preset(
    {**NO_TRUNCATION, "num_steps": 0, "temperature": 0.5, "annealing": 1.0}
)


def confidence(prediction: Prediction) -> Float[Array, "B L"]:
    """log max_v p(x_l = v | z_t)."""
    logits = prediction.logits
    return jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1)


def margin(prediction: Prediction) -> Float[Array, "B L"]:
    """Probability of the likeliest token minus that of the second."""
    logits = prediction.logits
    log_z = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    best = jnp.exp(jax.lax.top_k(logits, 2)[0] - log_z)
    return best[..., 0] - best[..., 1]


def entropy(prediction: Prediction) -> Float[Array, "B L"]:
    """sum_v p log p."""
    log_p = jax.nn.log_softmax(prediction.logits, axis=-1)
    return jnp.sum(jnp.where(log_p > -jnp.inf, jnp.exp(log_p) * log_p, 0.0), axis=-1)


def schedule_quota(info: StepInfo) -> Int[Array, " B"]:
    """Leaves round((1 - alpha_s) n) of the n free positions masked."""
    num_free = jnp.sum(info.is_free, axis=1).astype(jnp.float32)
    num_stay = jnp.round((1.0 - info.alpha_s) * num_free).astype(jnp.int32)
    return jnp.maximum(jnp.sum(info.is_masked, axis=1) - num_stay, 0)


def ranked(
    score: Score,
    num_to_unmask: NumToUnmask = schedule_quota,
    depends_on: str = "visible",
) -> UnmaskingPolicy:
    """Unmasks the num_to_unmask positions with the largest scores.

    Args:
      score, num_to_unmask: see above.
      depends_on: see `UnmaskingPolicy`; "drawn" if the score proposes tokens.
    """

    def plan(info: StepInfo) -> StepPlan:
        unmask = info.is_masked & (num_to_unmask(info) > 0)[:, None]
        return StepPlan(unmask, jnp.zeros_like(unmask))

    def choose(
        info: StepInfo, candidates: Positions, prediction: Prediction
    ) -> Positions:
        scores = jnp.where(candidates, score(prediction), -jnp.inf)
        return candidates & (rank(scores) < num_to_unmask(info)[:, None])

    return UnmaskingPolicy(plan, depends_on, choose)


def policy(score: Score, cfg: SampleConfig, alpha: Schedule) -> UnmaskingPolicy:
    """Ranks by the score, with the quota of the schedule."""
    del cfg, alpha
    return ranked(score)


by_confidence = partial(policy, confidence)
by_margin = partial(policy, margin)
by_entropy = partial(policy, entropy)
