"""The training loss: the continuous-time negative evidence lower bound (NELBO)."""

import jax
import jax.numpy as jnp

from lm_jax.keys import row_keys
from lm_jax.types import (
    MASK,
    PAD,
    NllFn,
    Params,
    PRNGKey,
    Rows,
    Times,
    TokenNats,
    Tokens,
)
from mdlm_jax.forward_process import TimesOf, mask_tokens, stratified_times
from mdlm_jax.schedule import Schedule, linear


def nelbo_weight(alpha: Schedule, t: Times) -> Times:
    """-alpha'(t) / (1 - alpha(t)), with alpha' by automatic differentiation.

    Zero where alpha rounds to 1: nothing is masked there, and infinity times zero would
    be NaN in the gradient.

    >>> nelbo_weight(lambda t: 1.0 - t * t, jnp.array([0.0, 0.5, 1.0])).tolist()
    [0.0, 4.0, 2.0]
    """
    slope = jax.vmap(jax.grad(alpha))(t)
    masked_share = 1.0 - alpha(t)
    is_positive = masked_share > 0.0
    divisor = jnp.where(is_positive, masked_share, 1.0)
    return jnp.where(is_positive, -slope / divisor, 0.0)


def token_nll(
    nll_fn: NllFn,
    params: Params,
    x: Tokens,
    key: PRNGKey,
    rows: Rows | None = None,
    alpha: Schedule = linear,
    times: TimesOf = stratified_times,
) -> TokenNats:
    """-alpha'(t) / (1 - alpha(t)) * -log p(x_l | z_t) where z_t is masked, else 0.

    Its expected sum over a row bounds -log p(x) from above, for every schedule; Shi et
    al. 2024, arXiv:2406.04329, eq. 5; Sahoo et al. 2024, arXiv:2406.07524, eq. 11.
    """
    nats, t, _ = masked_cross_entropy(nll_fn, params, x, key, rows, alpha, times)
    return nelbo_weight(alpha, t)[:, None] * nats


def token_mean(
    nll_fn: NllFn,
    params: Params,
    x: Tokens,
    key: PRNGKey,
    rows: Rows | None = None,
    alpha: Schedule = linear,
    times: TimesOf = stratified_times,
) -> TokenNats:
    """Cross-entropy scaled so that its mean over the text is its mean over the masks.

    Every masked token of the batch has the same weight, as in the code of
    arXiv:2603.22075. This is neither a likelihood nor a bound on one.
    """
    nats, _, is_masked = masked_cross_entropy(
        nll_fn, params, x, key, rows, alpha, times
    )
    num_tokens = jnp.sum(x != PAD)
    return nats * num_tokens / jnp.maximum(jnp.sum(is_masked), 1)


OBJECTIVES = {"nelbo": token_nll, "token_mean": token_mean}


def masked_cross_entropy(
    nll_fn: NllFn,
    params: Params,
    x: Tokens,
    key: PRNGKey,
    rows: Rows | None,
    alpha: Schedule,
    times: TimesOf = stratified_times,
):
    """(-log p(x_l | z_t) where text is masked, else 0; t; whether text is masked)."""
    rows = rows or Rows.of(x)
    key_t, key_z = jax.random.split(key)
    t = times(key_t, rows)
    z_t = mask_tokens(row_keys(key_z, rows.index), x, alpha(t))
    is_masked = (z_t == MASK) & (x != PAD)
    return nll_fn(params, z_t, x, is_masked, t), t, is_masked
