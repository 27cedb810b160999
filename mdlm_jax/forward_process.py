"""The forward process q(z_t | x): diffusion times and masked tokens."""

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

ROW_MULTIPLE = 128  # matrix products are faster at such sizes


def stratified_times(key: PRNGKey, rows: Rows) -> Times:
    """t_b = (b + u) / B with one u in (0, 1] for the whole batch of B rows.

    Every t is uniform on (0, 1], and the whole batch covers [0, 1] evenly, over devices
    and microbatches; Kingma et al. 2021, arXiv:2107.00630, appendix I.

    >>> t = stratified_times(jax.random.key(0), Rows(jnp.arange(4), 4))
    >>> jnp.ceil(4 * t).tolist()  # one in each quarter
    [1.0, 2.0, 3.0, 4.0]
    """
    u = 1.0 - jax.random.uniform(key)  # excludes t = 0, where the weight is infinite
    return (rows.index + u) / rows.total


def independent_times(key: PRNGKey, rows: Rows) -> Times:
    """t_b ~ U(0, 1], independent for each row, as in arXiv:2603.22075."""
    return 1.0 - jax.vmap(jax.random.uniform)(row_keys(key, rows.index))


TIMES: dict[str, TimesOf] = {
    "stratified": stratified_times,
    "independent": independent_times,
}


def mask_tokens(keys: RowKeys, x: Tokens, alpha_t: Times) -> Tokens:
    """z_t ~ q(z_t | x): each token of row b is unmasked with probability alpha_t[b].

    PAD is always masked. A visible PAD would reveal where the text ends, which AR is
    never given. As PAD is masked, the bound is on the same event as in AR: the text.
    """

    def mask_row(key: PRNGKey, row: Int[Array, " L"], alpha: Array) -> Array:
        is_unmasked = jax.random.bernoulli(key, alpha, row.shape)
        return jnp.where(is_unmasked & (row != PAD), row, MASK)

    return jax.vmap(mask_row)(keys, x, alpha_t)


def masked_buffer_size(
    alpha: Schedule, batch: int, length: int, deviations: float = 5.0
) -> int:
    """Size of a buffer for the masked positions of a batch (B, L).

    It assumes stratified times, takes the worst of their offsets u, and adds to the
    mean `deviations` standard deviations of the number of masked tokens: at 5, about
    one batch in a million has more.
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
