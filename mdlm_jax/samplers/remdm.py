"""ReMDM: unmasked tokens are remasked with probability sigma, and drawn again.

Wang et al. 2025, arXiv:2503.00307. For every sigma with 0 <= sigma <= sigma_max,

    p(z_s = MASK | z_t = MASK) = (1 - alpha_s - sigma alpha_t) / (1 - alpha_t)
    p(z_s = MASK | z_t = x)    = sigma
    sigma_max                  = min(1, (1 - alpha_s) / alpha_t)

keeps q(z_s | x) as it is; sigma = 0 is the ancestral step. Four choices of sigma:

    cap       min(eta, sigma_max)
    rescale   eta sigma_max
    conf      eta sigma_max softmax(-psi) over the unmasked positions of the row
    loop      cap while the time is held constant, and 0 before and after
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lm_jax.config import SampleConfig
from mdlm_jax.samplers.base import (
    Sampler,
    Scalar,
    StepInfo,
    StepPlan,
    TimeGrid,
    TimeWarp,
    UnmaskingPolicy,
    bernoulli,
    masked_probability,
    uniform_grid,
)
from mdlm_jax.schedule import Schedule, inverse

Sigma = Callable[[StepInfo], Float[Array, "B L"]]


def remdm(sigma: Sigma) -> UnmaskingPolicy:
    """The reverse step above: positions are unmasked and remasked independently."""

    def plan(info: StepInfo) -> StepPlan:
        p = sigma(info)
        stays = 1.0 - info.alpha_s - p * info.alpha_t
        stays = stays / masked_probability(info.alpha_t)
        unmask = info.is_masked & ~bernoulli(info.unmask_keys, stays)
        return StepPlan(unmask, info.is_unmasked & bernoulli(info.remask_keys, p))

    return UnmaskingPolicy(plan, depends_on="random", remasks=True)


def sigma_max(info: StepInfo) -> Scalar:
    """min(1, (1 - alpha_s) / alpha_t); zero in the last step."""
    ratio = (1.0 - info.alpha_s) / jnp.where(info.alpha_t > 0.0, info.alpha_t, 1.0)
    return jnp.where(info.alpha_t > 0.0, jnp.minimum(1.0, ratio), 1.0)


def cap_sigma(eta: float) -> Sigma:
    """min(eta, sigma_max) at every position."""
    return lambda info: jnp.full(info.z_t.shape, jnp.minimum(eta, sigma_max(info)))


def rescale_sigma(eta: float) -> Sigma:
    """eta sigma_max at every position."""
    return lambda info: jnp.full(info.z_t.shape, eta * sigma_max(info))


def conf_sigma(eta: float) -> Sigma:
    """eta sigma_max softmax(-psi): tokens that were unlikely are remasked most often.

    psi is the probability that a token had when it was unmasked. The sigmas of a row
    add up to eta sigma_max: that many tokens are remasked in expectation.
    """

    def sigma(info: StepInfo) -> Float[Array, "B L"]:
        scores = jnp.where(info.is_unmasked, -info.psi, -jnp.inf)
        shares = jax.nn.softmax(scores, axis=1)  # NaN, and not used, before any is
        return eta * sigma_max(info) * jnp.where(info.is_unmasked, shares, 0.0)

    return sigma


def during_plateau(sigma: Sigma) -> Sigma:
    """sigma while alpha_s = alpha_t, and 0 elsewhere.

    On the plateau, unmasked tokens replace remasked ones.
    """
    return lambda info: jnp.where(info.alpha_s == info.alpha_t, sigma(info), 0.0)


def plateau(alpha: Schedule, t_on: float, t_off: float, alpha_on: float) -> TimeWarp:
    """Time warp: held at alpha(t) = alpha_on for t_on >= t >= t_off, else linear."""

    def warp(t: Scalar) -> Scalar:
        held = inverse(alpha, jnp.float32(alpha_on))
        before = held + (1.0 - held) * (t - t_on) / (1.0 - t_on)
        after = held * t / t_off
        return jnp.where(t > t_on, before, jnp.where(t < t_off, after, held))

    return warp


def remdm_loop_grid(cfg: SampleConfig, alpha: Schedule, num_steps: int) -> TimeGrid:
    """Uniform steps with a plateau at cfg.alpha_on from cfg.t_on to cfg.t_off."""
    warp = plateau(alpha, cfg.t_on, cfg.t_off, cfg.alpha_on)
    return uniform_grid(alpha, num_steps, warp)


def cap(cfg: SampleConfig, alpha: Schedule) -> UnmaskingPolicy:
    """ReMDM-cap with cfg.eta."""
    del alpha
    return remdm(cap_sigma(cfg.eta))


def rescale(cfg: SampleConfig, alpha: Schedule) -> UnmaskingPolicy:
    """ReMDM-rescale with cfg.eta."""
    del alpha
    return remdm(rescale_sigma(cfg.eta))


def conf(cfg: SampleConfig, alpha: Schedule) -> UnmaskingPolicy:
    """ReMDM-conf with cfg.eta."""
    del alpha
    return remdm(conf_sigma(cfg.eta))


def loop(cfg: SampleConfig, alpha: Schedule, length: int) -> Sampler:
    """ReMDM-loop: remasks during the plateau of its time grid only."""
    policy = remdm(during_plateau(cap_sigma(cfg.eta)))
    return Sampler(policy, remdm_loop_grid(cfg, alpha, cfg.num_steps or length))
