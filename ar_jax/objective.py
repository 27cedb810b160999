"""The training loss: exact negative log-likelihood by the chain rule."""

import jax.numpy as jnp

from lm_jax.types import BOS, PAD, NllFn, Params, PRNGKey, Rows, TokenNats, Tokens


def token_nll(
    nll_fn: NllFn,
    params: Params,
    x: Tokens,
    key: PRNGKey,
    rows: Rows | None = None,
) -> TokenNats:
    """-log p(x_l | BOS, x_1, ..., x_{l-1}) for every l; exact, and 0 at PAD."""
    del key, rows  # nothing is drawn
    return nll_fn(params, shift_right(x), x, x != PAD)


def shift_right(x: Tokens) -> Tokens:
    """BOS, x_1, ..., x_{L-1}: the input that predicts x_1, ..., x_L.

    >>> shift_right(jnp.array([[7, 8, 9]])).tolist()
    [[1, 7, 8]]
    """
    return jnp.pad(x[:, :-1], ((0, 0), (1, 0)), constant_values=BOS)
