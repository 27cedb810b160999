"""Logits to tokens: repetition penalty, temperature, top-k, top-p, min-p, sampling."""

from collections.abc import Callable
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from lm_jax.config import SampleConfig
from lm_jax.types import EOS, MASK, Tokens

LogitsTransform = Callable[[Float[Array, "*B V"]], Float[Array, "*B V"]]
Template = Int[Array, "B L"] | Int[np.ndarray, "B L"]  # given tokens, MASK elsewhere


def repetition_penalty(
    penalty: float, is_in_row: Bool[Array, "*B V"]
) -> LogitsTransform:
    """Divides positive logits of tokens of the row by the penalty, multiplies negative.

    Keskar et al. 2019, arXiv:1909.05858, section 4.1, in its common implementation.
    """

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        penalised = jnp.where(logits > 0.0, logits / penalty, logits * penalty)
        return jnp.where(is_in_row, penalised, logits)

    return transform


def temperature(
    tau: float, share: Float[Array, "*B 1"] | None = None
) -> LogitsTransform:
    """Divides by tau, or by share * tau; 1 is the model itself, 0 is greedy.

    Ties go to the lowest id.
    """
    tiny = float(np.finfo(np.float32).tiny)
    if tau < tiny:
        return top_k(1)
    divisor = tau if share is None else jnp.maximum(tau * share, tiny)

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        # The largest logit is set to zero first, as a small tau would overflow it.
        return (logits - jnp.max(logits, axis=-1, keepdims=True)) / divisor

    return transform


def top_k(k: int) -> LogitsTransform:
    """Keeps the k likeliest tokens; ties go to the lowest ids.

    Fan et al. 2018, arXiv:1805.04833.
    """

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        kept, ids = jax.lax.top_k(logits, min(k, logits.shape[-1]))
        return _put(kept, ids, logits)

    return transform


def top_p(p: float) -> LogitsTransform:
    """Keeps the smallest set of likeliest tokens with total probability p or more.

    It has at least one token; Holtzman et al. 2019, arXiv:1904.09751.
    """

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
    """Keeps the tokens with at least `share` times the probability of the likeliest.

    Nguyen et al. 2024, arXiv:2407.01082.
    """

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        least = jnp.max(logits, axis=-1, keepdims=True) + np.log(share)
        return jnp.where(logits < least, -jnp.inf, logits)

    return transform


def chain(*transforms: LogitsTransform) -> LogitsTransform:
    """Composition of the transforms, the first applied first; of none, the identity."""
    return lambda logits: reduce(lambda x, transform: transform(x), transforms, logits)


def make_transform(
    cfg: SampleConfig, share: Float[Array, "*B 1"] | None = None
) -> LogitsTransform:
    """Temperature, top-k, top-p, then min-p, each only if `cfg` asks for it.

    Args:
      cfg: settings of the sampler.
      share: factor on the temperature, if it is annealed.
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


def forbid_eos(
    logits: Float[Array, "*B V"], may_end: Bool[Array, "*B"]
) -> Float[Array, "*B V"]:
    """-inf at EOS where the text may not end, as before given tokens."""
    is_eos = jnp.arange(logits.shape[-1]) == EOS
    is_eos = jnp.broadcast_to(is_eos, logits.shape)
    return jnp.where(is_eos & ~may_end[..., None], -jnp.inf, logits)


def count_tokens(x: Tokens, vocab_size: int) -> Int[Array, "B V"]:
    """Number of occurrences of each token in each row, without MASK."""
    rows = jnp.arange(x.shape[0])[:, None]
    zeros = jnp.zeros((x.shape[0], vocab_size), jnp.int32)
    return zeros.at[rows, x].add((x != MASK).astype(jnp.int32))


def draw(keys: Key[Array, "*B"], logits: Float[Array, "*B V"]) -> Int[Array, "*B"]:
    """x ~ softmax(logits), with one key for each token.

    With `mode="high"`, as the float32 Gumbel noise of the default is at most about 16:
    tokens with a probability below about 1e-7 would never be drawn (Zheng et al. 2024,
    arXiv:2409.02908).
    """
    categorical = jax.vmap(partial(jax.random.categorical, mode="high"))
    x = categorical(keys.ravel(), logits.reshape(-1, logits.shape[-1]))
    return x.reshape(keys.shape)


def full_template(template: Template | None, shape: tuple[int, int]) -> Tokens:
    """The template on the device; all MASK if it is None.

    Raises:
      ValueError: the shape of the template is not that of the samples.
    """
    if template is None:
        return jnp.full(shape, MASK, jnp.int32)
    if template.shape != shape:
        raise ValueError(
            f"the template has shape {template.shape} but the samples have {shape}: "
            "make it for the same number of rows and the same length"
        )
    return jnp.asarray(template, jnp.int32)


def _put(
    kept: Float[Array, "*B k"], ids: Int[Array, "*B k"], logits: Float[Array, "*B V"]
) -> Float[Array, "*B V"]:
    """`kept` at `ids`, and -inf elsewhere."""
    empty = jnp.full_like(logits, -jnp.inf)
    return jnp.put_along_axis(empty, ids, kept, axis=-1, inplace=False)
