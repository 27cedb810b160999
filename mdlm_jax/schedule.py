"""Masking schedules: alpha(t) is the probability that a token is unmasked at time t.

Every schedule falls from alpha(0) = 1 to alpha(1) = 0. The inverse, and the weight of
the loss in objective.py, are computed from alpha.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Schedule = Callable[[Float[Array, "*B"]], Float[Array, "*B"]]


def linear(t: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """alpha = 1 - t; the weight of the loss is 1 / t.

    >>> linear(jnp.array([0.0, 0.25, 1.0])).tolist()
    [1.0, 0.75, 0.0]
    """
    return 1.0 - t


def cosine(t: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """alpha = 1 - cos(pi (1 - t) / 2); Shi et al. 2024, arXiv:2406.04329, table 1."""
    return 1.0 - jnp.cos(0.5 * jnp.pi * (1.0 - t))


def polynomial(t: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """alpha = 1 - t^2; Shi et al. 2024, arXiv:2406.04329, table 1, with exponent 2."""
    return 1.0 - t * t


def log_linear(t: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """alpha = exp(-sigma), sigma = -log(1 - (1 - eps) t), in the limit eps -> 0.

    Lou et al. 2023, arXiv:2310.16834. Their eps = 0.001 leaves that share of the tokens
    unmasked at t = 1, and so omits that share of the bound. In the limit, the bound is
    complete, exponential and logarithm cancel, and the schedule is `linear`.
    """
    return linear(t)


def cos_squared(t: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """alpha = cos^2(pi t / 2); the masked share 1 - alpha of arXiv:2603.22075."""
    return jnp.cos(0.5 * jnp.pi * t) ** 2


SCHEDULES: dict[str, Schedule] = {
    "linear": linear,
    "cosine": cosine,
    "polynomial": polynomial,
    "log_linear": log_linear,
    "cos_squared": cos_squared,
}


def inverse(alpha: Schedule, alpha_t: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """t with alpha(t) = alpha_t, by bisection to float32 precision.

    >>> print(f"{inverse(polynomial, jnp.array(0.75)):.4f}")
    0.5000
    """

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        is_early = alpha(middle) > alpha_t
        return jnp.where(is_early, middle, low), jnp.where(is_early, high, middle)

    bounds = jnp.zeros_like(alpha_t), jnp.ones_like(alpha_t)
    low, high = jax.lax.fori_loop(0, 30, halve, bounds)
    return 0.5 * (low + high)
