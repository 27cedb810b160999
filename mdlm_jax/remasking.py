"""Remasking: written tokens become MASK again with sigma, and are drawn anew.

Wang et al. 2025, arXiv:2503.00307 (ReMDM). With z_t masked or written at a position,

    p(z_s = MASK | z_t = MASK) = (1 - alpha_s - sigma alpha_t) / (1 - alpha_t)
    p(z_s = MASK | z_t = x)    = sigma,      0 <= sigma <= sigma_max,

every sigma keeps q(z_s | x) as it was, and sigma = 0 is the ancestral step.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdlm_jax.rules import Plan, Rule, Scalar, Step, bernoulli

Sigma = Callable[[Step], Float[Array, "B L"]]


def remasking(sigma: Sigma) -> Rule:
    """The reverse step above: positions open and shut, each by itself."""

    def plan(step: Step) -> Plan:
        shares = sigma(step)
        masked_share = jnp.maximum(1.0 - step.alpha_t, jnp.finfo(jnp.float32).tiny)
        stays = (1.0 - step.alpha_s - shares * step.alpha_t) / masked_share
        opens = step.is_masked & ~bernoulli(step.open_keys, stays)
        return Plan(opens, step.is_written & bernoulli(step.shut_keys, shares))

    return Rule(plan, remasks=True)


def largest(step: Step) -> Scalar:
    """sigma_max = min(1, (1 - alpha_s) / alpha_t); it ends at zero."""
    ratio = (1.0 - step.alpha_s) / jnp.where(step.alpha_t > 0.0, step.alpha_t, 1.0)
    return jnp.where(step.alpha_t > 0.0, jnp.minimum(1.0, ratio), 1.0)


def cap(eta: float) -> Sigma:
    """min(eta, sigma_max) at every position: ReMDM-cap."""
    return lambda step: jnp.full(step.z_t.shape, jnp.minimum(eta, largest(step)))


def rescale(eta: float) -> Sigma:
    """eta sigma_max at every position: ReMDM-rescale."""
    return lambda step: jnp.full(step.z_t.shape, eta * largest(step))


def by_doubt(eta: float) -> Sigma:
    """eta sigma_max times softmax(-psi) over the written tokens: doubt goes first.

    psi is the probability that a token had when it was written: ReMDM-conf. The shares
    of a row add up to eta sigma_max: about that many tokens shut in a step.
    """

    def sigma(step: Step) -> Float[Array, "B L"]:
        doubt = jnp.where(step.is_written, -step.psi, -jnp.inf)
        shares = jax.nn.softmax(doubt, axis=1)  # NaN, and not used, before any is
        return eta * largest(step) * jnp.where(step.is_written, shares, 0.0)

    return sigma


def where_still(sigma: Sigma) -> Sigma:
    """sigma while the schedule stands still, alpha_s = alpha_t, and 0 elsewhere: what
    opens then only replaces what has shut: ReMDM-loop."""
    return lambda step: jnp.where(step.alpha_s == step.alpha_t, sigma(step), 0.0)
