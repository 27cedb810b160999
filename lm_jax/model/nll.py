"""Negative log-likelihood of text tokens from logits, in nats."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lm_jax.types import NUM_NON_TEXT, PAD, Logits, NllFn, Params, TokenNats, Tokens


def text_logits(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
    """Logits in float32, -inf for PAD, BOS, UNK and MASK, which no text contains."""
    is_text = jnp.arange(logits.shape[-1]) >= NUM_NON_TEXT
    is_text = jnp.broadcast_to(is_text, logits.shape)
    return jnp.where(is_text, logits.astype(jnp.float32), -jnp.inf)


def token_cross_entropy(logits: Logits, x: Tokens) -> TokenNats:
    """-log softmax(text logits)[x], in float32; zero where x is PAD."""
    target = jnp.where(x == PAD, NUM_NON_TEXT, x)  # any text id: PAD would give inf
    logits = text_logits(logits)
    chosen = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
    nats = jax.nn.logsumexp(logits, axis=-1) - chosen
    return jnp.where(x == PAD, 0.0, nats)


def nll_from_logits(logits_fn: Callable[..., Logits]) -> NllFn:
    """The NllFn of a network: its cross-entropy at every position, 0 if not scored."""

    def nll_fn(
        params: Params,
        inputs: Tokens,
        x: Tokens,
        is_scored: Bool[Array, "B L"],
        *time: Array,
    ) -> TokenNats:
        nats = token_cross_entropy(logits_fn(params, inputs, *time), x)
        return jnp.where(is_scored, nats, 0.0)

    return nll_fn


def predictions(
    logits: Logits, x: Tokens
) -> tuple[Float[Array, "B L"], Bool[Array, "B L"]]:
    """(probability of the likeliest token, whether that token is x)."""
    p = jax.nn.softmax(text_logits(logits))
    return jnp.max(p, axis=-1), jnp.argmax(p, axis=-1) == x
