"""Exact log-likelihood of texts."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from ar_jax.objective import shift_right, token_nll
from lm_jax.language_model import TokenScores, is_given
from lm_jax.model.nll import nll_from_logits, predictions, token_cross_entropy
from lm_jax.types import PAD, LogitsFn, Params, PRNGKey, SequenceNats, Tokens


def log_likelihood(
    logits_fn: LogitsFn,
    params: Params,
    x: Tokens,
    key: PRNGKey,
    num_draws: int,
    num_given: Int[Array, " B"] | None = None,
) -> tuple[SequenceNats, SequenceNats]:
    """log p(x) of each row's text in nats, and its standard error, which is zero.

    Given tokens (see `language_model.LogLikelihood`) are read and not scored.
    """
    del num_draws  # the chain rule is exact
    nll = token_nll(nll_from_logits(logits_fn), params, x, key)
    if num_given is not None:
        nll = jnp.where(is_given(x, num_given), 0.0, nll)
    nats = -nll.sum(axis=-1)
    return nats, jnp.zeros_like(nats)


def token_scores(
    logits_fn: LogitsFn, params: Params, x: Tokens, key: PRNGKey
) -> TokenScores:
    """Prediction of every token from all tokens before it, with weight 1.

    The l-th of n tokens does not see itself and the n - l tokens after it: a share of
    (n - l + 1) / n is hidden.
    """
    del key  # nothing is drawn
    logits = logits_fn(params, shift_right(x))
    num_tokens = jnp.maximum(jnp.sum(x != PAD, axis=-1), 1)[:, None]
    hidden_share = 1.0 - jnp.arange(x.shape[1])[None] / num_tokens
    confidence, is_correct = predictions(logits, x)
    return TokenScores(
        nats=token_cross_entropy(logits, x),
        confidence=confidence,
        is_correct=is_correct,
        weight=jnp.where(x != PAD, 1.0, 0.0),
        hidden_share=jnp.maximum(hidden_share, 0.0),
    )
