"""From logits to tokens: penalty, temperature, top-k, top-p, min-p, and the draw."""

from collections.abc import Callable
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from lm_jax.config import SampleConfig
from lm_jax.types import MASK, Tokens

LogitsTransform = Callable[[Float[Array, "*B V"]], Float[Array, "*B V"]]
Template = Int[Array, "B L"] | Int[np.ndarray, "B L"]  # given tokens, MASK elsewhere


def repetition_penalty(
    penalty: float, is_written: Bool[Array, "*B V"]
) -> LogitsTransform:
    """Divides positive logits of written tokens by the penalty and multiplies negative
    ones; Keskar et al. 2019, arXiv:1909.05858, section 4.1, as it is commonly read."""

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        penalised = jnp.where(logits > 0.0, logits / penalty, logits * penalty)
        return jnp.where(is_written, penalised, logits)

    return transform


def temperature(
    tau: float, share: Float[Array, "*B 1"] | None = None
) -> LogitsTransform:
    """Divides by tau, or by a share of it: 1 is the model itself, 0 is greedy (ties to
    the lowest id)."""
    tiny = float(np.finfo(np.float32).tiny)
    if tau < tiny:
        return top_k(1)
    divisor = tau if share is None else jnp.maximum(tau * share, tiny)

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        # The largest becomes zero first: a small tau would overflow it otherwise.
        return (logits - jnp.max(logits, axis=-1, keepdims=True)) / divisor

    return transform


def top_k(k: int) -> LogitsTransform:
    """Keeps the k likeliest tokens, ties to the lowest ids; Fan et al. 2018,
    arXiv:1805.04833."""

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        kept, ids = jax.lax.top_k(logits, min(k, logits.shape[-1]))
        return _put(kept, ids, logits)

    return transform


def top_p(p: float) -> LogitsTransform:
    """Keeps the fewest likeliest tokens that together hold probability p, so always at
    least one; Holtzman et al. 2019, arXiv:1904.09751."""

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        ids = jnp.argsort(-logits, axis=-1, stable=True)
        falling = jnp.take_along_axis(logits, ids, axis=-1)
        probability = jax.nn.softmax(falling, axis=-1)
        before = jnp.cumsum(probability, axis=-1) - probability
        is_first = jnp.arange(logits.shape[-1]) == 0  # even where p rounds to zero
        is_kept = jnp.broadcast_to(is_first, before.shape) | (before < p)
        return _put(jnp.where(is_kept, falling, -jnp.inf), ids, logits)

    return transform


def min_p(share: float) -> LogitsTransform:
    """Keeps the tokens that are at least `share` times as likely as the likeliest;
    Nguyen et al. 2024, arXiv:2407.01082."""

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        least = jnp.max(logits, axis=-1, keepdims=True) + np.log(share)
        return jnp.where(logits < least, -jnp.inf, logits)

    return transform


def chain(*transforms: LogitsTransform) -> LogitsTransform:
    """Applies the transforms from the first to the last; none is the identity."""
    return lambda logits: reduce(lambda x, transform: transform(x), transforms, logits)


def make_transform(
    cfg: SampleConfig, share: Float[Array, "*B 1"] | None = None
) -> LogitsTransform:
    """Temperature, top-k, top-p, then min-p, each only where `cfg` asks for it.

    Args:
      cfg: the settings.
      share: of the temperature, where it is annealed.
    """
    transforms = []
    if cfg.temperature != 1.0 or share is not None:
        transforms.append(temperature(cfg.temperature, share))
    if cfg.top_k > 0:
        transforms.append(top_k(cfg.top_k))
    if cfg.top_p < 1.0:
        transforms.append(top_p(cfg.top_p))
    if cfg.min_p > 0.0:
        transforms.append(min_p(cfg.min_p))
    return chain(*transforms)


def count_tokens(x: Tokens, vocab_size: int) -> Int[Array, "B V"]:
    """How often each row holds each token; MASK is no token."""
    rows = jnp.arange(x.shape[0])[:, None]
    nothing = jnp.zeros((x.shape[0], vocab_size), jnp.int32)
    return nothing.at[rows, x].add((x != MASK).astype(jnp.int32))


def draw(keys: Key[Array, "*B"], logits: Float[Array, "*B V"]) -> Int[Array, "*B"]:
    """x ~ softmax(logits), with a key for each token.

    `mode="high"`: the float32 Gumbel noise of the default ends near 16, so that tokens
    less likely than about 1e-7 would never be drawn (Zheng et al. 2024,
    arXiv:2409.02908).
    """
    categorical = jax.vmap(partial(jax.random.categorical, mode="high"))
    x = categorical(keys.ravel(), logits.reshape(-1, logits.shape[-1]))
    return x.reshape(keys.shape)


def full_template(template: Template | None, shape: tuple[int, int]) -> Tokens:
    """The template on the device; all MASK where nothing is given.

    Raises:
      ValueError: the template has another shape than the samples.
    """
    if template is None:
        return jnp.full(shape, MASK, jnp.int32)
    if template.shape != shape:
        raise ValueError(
            f"the template has shape {template.shape} but the samples have {shape}: "
            "build it for the same number of rows and the model's window"
        )
    return jnp.asarray(template, jnp.int32)


def _put(
    kept: Float[Array, "*B k"], ids: Int[Array, "*B k"], logits: Float[Array, "*B V"]
) -> Float[Array, "*B V"]:
    """-inf everywhere but at `ids`, where `kept` stands."""
    nothing = jnp.full_like(logits, -jnp.inf)
    return jnp.put_along_axis(nothing, ids, kept, axis=-1, inplace=False)
