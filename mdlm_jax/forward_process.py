"""The forward process q(z_t | x): when to look, and what is masked by then."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from lm_jax.keys import row_keys
from lm_jax.types import (
    MASK,
    PAD,
    PRNGKey,
    RowKeys,
    Rows,
    Times,
    Tokens,
)
from mdlm_jax.schedule import Schedule

TimesOf = Callable[[PRNGKey, Rows], Times]

ROW_MULTIPLE = 128  # matrix products like round sizes


def stratified_times(key: PRNGKey, rows: Rows) -> Times:
    """t_b = (b + u) / B with one u in (0, 1] for the whole batch of B rows.

    Every t is uniform on (0, 1], and the batch covers [0, 1] evenly whatever devices or
    microbatches it is spread over; Kingma et al. 2021, arXiv:2107.00630, appendix I.

    >>> t = stratified_times(jax.random.key(0), Rows(jnp.arange(4), 4))
    >>> jnp.ceil(4 * t).tolist()  # one in each quarter
    [1.0, 2.0, 3.0, 4.0]
    """
    u = 1.0 - jax.random.uniform(key)  # never t = 0, where the weight is infinite
    return (rows.index + u) / rows.total


def independent_times(key: PRNGKey, rows: Rows) -> Times:
    """t_b ~ U(0, 1] for each row by itself, as in arXiv:2603.22075."""
    return 1.0 - jax.vmap(jax.random.uniform)(row_keys(key, rows.index))


TIMES: dict[str, TimesOf] = {
    "stratified": stratified_times,
    "independent": independent_times,
}


def mask_tokens(keys: RowKeys, x: Tokens, alpha_t: Times) -> Tokens:
    """z_t ~ q(z_t | x): each token of row b stays clean with probability alpha_t[b].

    PAD is always masked. A visible PAD would tell the model where the text ends, which
    AR is never told; hidden, it makes the bound one on the same event, the text.
    """

    def mask_row(key: PRNGKey, row: Int[Array, " L"], alpha: Array) -> Array:
        is_clean = jax.random.bernoulli(key, alpha, row.shape)
        return jnp.where(is_clean & (row != PAD), row, MASK)

    return jax.vmap(mask_row)(keys, x, alpha_t)


def masked_buffer_size(
    alpha: Schedule, batch: int, length: int, deviations: float = 5.0
) -> int:
    """So many places of a batch (B, L) hold its masks, but for one batch in a million.

    Stratified times leave little to chance: one offset u, for whose worst value this
    is, and the coins of the tokens, whose standard deviation is counted so many times.
    """
    with jax.ensure_compile_time_eval():
        t = (jnp.arange(batch)[:, None] + jnp.linspace(0.0, 1.0, 33)[None, :]) / batch
        share = np.float64(1.0 - alpha(t))
    mean = length * share.sum(axis=0)
    spread = np.sqrt(length * (share * (1.0 - share)).sum(axis=0))
    count = float(np.max(mean + deviations * spread))
    return min(batch * length, ROW_MULTIPLE * math.ceil(count / ROW_MULTIPLE))


def mask_exactly(keys: RowKeys, x: Tokens, num_masked: Int[Array, " B"]) -> Tokens:
    """z with num_masked[b] text tokens of row b masked, each subset equally likely."""

    def mask_row(key: PRNGKey, row: Int[Array, " L"], count: Array) -> Array:
        order = jnp.where(row == PAD, 2.0, jax.random.uniform(key, row.shape))
        rank = jnp.argsort(jnp.argsort(order))
        return jnp.where((rank < count) | (row == PAD), MASK, row)

    return jax.vmap(mask_row)(keys, x, num_masked)
