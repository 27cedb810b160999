"""Log-likelihood of texts: a lower bound by masks of exactly k tokens."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lm_jax.keys import row_keys
from lm_jax.language_model import TokenScores, is_given
from lm_jax.model.nll import predictions, token_cross_entropy
from lm_jax.types import (
    MASK,
    PAD,
    Params,
    PRNGKey,
    RowKeys,
    SequenceNats,
    TimedLogitsFn,
    Tokens,
)
from mdlm_jax.forward_process import mask_exactly
from mdlm_jax.schedule import Schedule, inverse, linear


def log_likelihood(
    logits_fn: TimedLogitsFn,
    params: Params,
    x: Tokens,
    key: PRNGKey,
    num_draws: int,
    num_given: Int[Array, " B"] | None = None,
    alpha: Schedule = linear,
) -> tuple[SequenceNats, SequenceNats]:
    """A lower bound on log p(x) of each row's text in nats, and its standard error.

    With n tokens of text, k uniform on 1..n and z a uniform choice of k masked tokens,

        -log p(x) <= E[n / k * sum over masked l of -log p(x_l | z)],

    the average of the chain rule over all orders; Ou et al. 2024, arXiv:2406.03736,
    eq. 3.5. The network is conditioned on the time at which the masked share is k / n.
    Given tokens (see `language_model.LogLikelihood`) are never masked: n counts the
    other tokens, and the masked share is that of the whole text. The result bounds
    log p(other tokens | given tokens): the average is over the orders of the n tokens.

    Masking exactly k tokens avoids the heavy tail of the weight 1 / t, and k is
    stratified: there are two draws in each of num_draws / 2 equal strata, and their
    differences give the standard error.

    Raises:
      ValueError: num_draws is odd or below 2.
    """
    if num_draws < 2 or num_draws % 2:
        raise ValueError(
            f"num_draws={num_draws} must be even and at least 2: "
            "the standard error compares two draws of a stratum"
        )
    num_strata = num_draws // 2
    given = jnp.zeros(x.shape, bool) if num_given is None else is_given(x, num_given)
    scored = jnp.where(given, PAD, x)
    num_scored, num_tokens = (jnp.sum(ids != PAD, axis=-1) for ids in (scored, x))
    rows = jnp.arange(x.shape[0])

    def one_draw(draw: Int[Array, ""]) -> SequenceNats:
        key_k, key_z = jax.random.split(jax.random.fold_in(key, draw))
        k = stratified_counts(row_keys(key_k, rows), draw // 2, num_strata, num_scored)
        z = jnp.where(given, x, mask_exactly(row_keys(key_z, rows), scored, k))
        t = inverse(alpha, 1.0 - k / jnp.maximum(num_tokens, 1))
        nats = token_cross_entropy(logits_fn(params, z, t), x)
        nats = jnp.sum(jnp.where(z == MASK, nats, 0.0), axis=-1)
        return num_scored / k * nats

    draws = jax.lax.map(one_draw, jnp.arange(num_draws))
    pairs = draws.reshape(num_strata, 2, x.shape[0])
    # A pair's mean has variance (a - b)^2 / 4 in expectation; strata are independent.
    variance = jnp.sum((pairs[:, 0] - pairs[:, 1]) ** 2 / 4.0, axis=0)
    return -jnp.mean(draws, axis=0), jnp.sqrt(variance) / num_strata


def stratified_counts(
    keys: RowKeys,
    stratum: Int[Array, ""],
    num_strata: int,
    num_tokens: Int[Array, " B"],
) -> Int[Array, " B"]:
    """k uniform on 1..n, n = num_tokens, within one of num_strata equal strata."""
    u: Float[Array, " B"] = jax.vmap(jax.random.uniform)(keys)
    k = 1 + jnp.floor((stratum + u) / num_strata * num_tokens).astype(jnp.int32)
    return jnp.clip(k, 1, jnp.maximum(num_tokens, 1))


def token_scores(
    logits_fn: TimedLogitsFn,
    params: Params,
    x: Tokens,
    key: PRNGKey,
    alpha: Schedule = linear,
) -> TokenScores:
    """One draw of the bound of `log_likelihood`, token by token.

    k of n tokens are masked, k uniform on 1..n, and each of the k predictions has the
    weight n / k: the expected sum of weight * nats is the bound, and that of weight is
    n. In expectation, these are the predictions of the chain rule in a random order.
    """
    key_k, key_z = jax.random.split(key)
    rows, num_tokens = jnp.arange(x.shape[0]), jnp.sum(x != PAD, axis=-1)
    k = stratified_counts(row_keys(key_k, rows), jnp.int32(0), 1, num_tokens)
    z = mask_exactly(row_keys(key_z, rows), x, k)
    hidden_share = k / jnp.maximum(num_tokens, 1)
    logits = logits_fn(params, z, inverse(alpha, 1.0 - hidden_share))
    is_hidden = (z == MASK) & (x != PAD)
    confidence, is_correct = predictions(logits, x)
    return TokenScores(
        nats=token_cross_entropy(logits, x),
        confidence=confidence,
        is_correct=is_correct,
        weight=jnp.where(is_hidden, (num_tokens / k)[:, None], 0.0),
        hidden_share=jnp.broadcast_to(hidden_share[:, None], x.shape),
    )
