"""The sampler of the code of arXiv:2603.22075.

Every step draws a token at every masked position and keeps those with the largest
probability: the masked positions, divided by the remaining steps. Settings: 100 steps,
temperature 0.8 (0.4 + 0.6 t), and a repetition penalty that differs from the usual one.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lm_jax.config import SampleConfig
from lm_jax.language_model import NO_TRUNCATION, Preset
from lm_jax.sampling.decoding import LogitsTransform
from mdlm_jax.samplers.base import Prediction, Sampler, StepInfo, uniform_grid
from mdlm_jax.samplers.ranked import ranked
from mdlm_jax.schedule import Schedule

PRESET = Preset(
    {
        **NO_TRUNCATION,
        "num_steps": 100,
        "temperature": 0.8,
        "annealing": 0.4,
        "repetition_penalty": 1.3,
    }
)


def sampler(cfg: SampleConfig, alpha: Schedule, length: int) -> Sampler:
    """The sampler above; `PRESET` has the settings of the paper."""
    grid = uniform_grid(alpha, cfg.num_steps or length)
    policy = ranked(drawn_log_p, linear_quota, depends_on="drawn")
    return Sampler(policy, grid, count_penalty)


def drawn_log_p(prediction: Prediction) -> Float[Array, "B L"]:
    """Log-probability of the token that is drawn at each position."""
    return prediction.propose()[1]


def linear_quota(info: StepInfo) -> Int[Array, " B"]:
    """Masked positions divided by the remaining steps, rounded down, at least 1.

    So 128 tokens in 100 steps are 72 steps of one token, then 28 of two.
    """
    num_masked = jnp.sum(info.is_masked, axis=1)
    return jnp.minimum(num_masked, jnp.maximum(num_masked // info.steps_left, 1))


def count_penalty(penalty: float, counts: Int[Array, "*B V"]) -> LogitsTransform:
    """logits / min(penalty^count, 5), negative logits included: a repeated token with a
    negative logit becomes likelier."""
    divisor = jnp.minimum(penalty ** counts.astype(jnp.float32), 5.0)

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        return logits / divisor

    return transform
