"""Ancestral sampling from left to right: x_l ~ p(x_l | x_{<l})."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lm_jax.config import SampleConfig
from lm_jax.keys import fold_in_each, row_keys
from lm_jax.language_model import (
    NO_TRUNCATION,
    Order,
    Preset,
    resolve_sampler_config,
)
from lm_jax.model.nll import text_logits
from lm_jax.sampling.decoding import (
    Template,
    draw,
    full_template,
    make_transform,
    repetition_penalty,
)
from lm_jax.types import (
    BOS,
    EOS,
    MASK,
    LogitsFn,
    Params,
    PRNGKey,
    SampleOutput,
    Tokens,
)

Cache = Any  # key-value cache of the previous positions, a pytree
InitCache = Callable[[int, int], Cache]
Decode = Callable[
    [Params, Cache, Int[Array, " B"], Int[Array, ""]],
    tuple[Float[Array, "B V"], Cache],
]

# "vicentino2026" is the sampler of the code of arXiv:2603.22075, which has no nucleus
# and begins every text with "Once".
SAMPLERS = {
    "left_to_right": Preset(),
    "low_temperature": Preset({**NO_TRUNCATION, "temperature": 0.5}),
    "vicentino2026": Preset({**NO_TRUNCATION, "temperature": 0.8}, prompt="Once"),
}


def samplers() -> dict[str, Preset]:
    """Preset of every sampler by name; the samplers differ only in their settings."""
    return SAMPLERS


def order(cfg: SampleConfig, length: int) -> Order:
    """From left to right with every sampler, so that a text has an exact likelihood.

    Raises:
      ValueError: there is no such sampler.
    """
    del length
    resolve_sampler_config(cfg, SAMPLERS)
    return Order(is_random=False)


class DecodeState(NamedTuple):
    """State of the sampling loop.

    Attributes:
      position: index of the next position.
      x: tokens.
      previous: token at the previous position.
      has_ended: whether each row has drawn EOS.
      num_positions: number of positions until each row drew EOS.
      is_in_row: whether each token id occurs in the row; None without a repetition
        penalty.
      log_p: see `SampleOutput`.
      cache: key-value cache.
    """

    position: Int[Array, ""]
    x: Tokens
    previous: Int[Array, " B"]
    has_ended: Bool[Array, " B"]
    num_positions: Int[Array, " B"]
    is_in_row: Bool[Array, "B V"] | None
    log_p: Float[Array, "B L"]
    cache: Cache


def sample(
    init_cache: InitCache,
    decode: Decode,
    params: Params,
    key: PRNGKey,
    shape: tuple[int, int],
    cfg: SampleConfig,
    template: Template | None = None,
    first_row: int | Int[Array, ""] | Int[Array, " B"] = 0,
    traced: bool = False,
    truth: Tokens | None = None,
) -> SampleOutput:
    """Samples rows of text, position by position, until every row has drawn EOS.

    Given tokens of the template are kept; elsewhere row b draws x_l with the key
    fold_in(fold_in(key, first_row + b), l). After EOS, the rest of a row is EOS. Each
    position is a step and a network call, also where a token is given. With `truth`,
    all of its tokens are written, also those after an EOS.

    Args:
      init_cache: (batch, length) -> empty cache of `length` positions. Every array of
        a shorter cache must be a leading part of the array of a longer one.
      decode: (params, cache, x_{l-1}, l) -> (logits of x_l, cache); x_{-1} is BOS.
      params, key, shape, cfg, first_row, traced, truth: see `language_model.Sample`.
      template: given tokens, then MASK. Tokens after a MASK do not affect the tokens
        before them.

    Raises:
      ValueError: the sampler is unknown, or the template has another shape.
    """
    batch, length = shape
    cfg = resolve_sampler_config(cfg, SAMPLERS)
    template = full_template(template, shape)
    transform = make_transform(cfg)
    rows = row_keys(key, first_row + jnp.arange(batch))
    first_end, *ends = _cache_lengths(length)
    cache = init_cache(batch, first_end)
    is_in_row = None
    if cfg.repetition_penalty != 1.0:
        start = (params, cache, jnp.zeros(batch, jnp.int32), jnp.int32(0))
        vocab_size = jax.eval_shape(decode, *start)[0].shape[-1]
        is_in_row = jnp.zeros((batch, vocab_size), bool)

    def is_unfinished(state: DecodeState, end: int) -> Array:
        return (state.position < end) & ~jnp.all(state.has_ended)

    def sample_position(state: DecodeState) -> DecodeState:
        position, is_in_row = state.position, state.is_in_row
        logits, cache = decode(params, state.cache, state.previous, position)
        logits = text_logits(logits)
        if is_in_row is not None:
            penalise = repetition_penalty(cfg.repetition_penalty, is_in_row)
            logits = penalise(logits)
        cut, given = transform(logits), template[:, position]
        is_free = given == MASK
        if truth is None:
            drawn = draw(fold_in_each(rows, position), cut)
            drawn = jnp.where(state.has_ended, EOS, drawn)
        else:
            drawn = truth[:, position]
        log_p = jnp.take_along_axis(jax.nn.log_softmax(cut), drawn[:, None], axis=1)
        is_written = is_free & ~state.has_ended
        token = jnp.where(is_free, drawn, given)
        if is_in_row is not None:
            is_in_row = is_in_row.at[jnp.arange(batch), token].set(True)
        return DecodeState(
            position=position + 1,
            x=state.x.at[:, position].set(token),
            previous=token,
            has_ended=state.has_ended | (is_free & (drawn == EOS) & (truth is None)),
            num_positions=jnp.where(state.has_ended, state.num_positions, position + 1),
            is_in_row=is_in_row,
            log_p=state.log_p.at[:, position].set(
                jnp.where(is_written, log_p[:, 0], 0.0)
            ),
            cache=cache,
        )

    state = DecodeState(
        position=jnp.int32(0),
        x=jnp.where(template == MASK, EOS, template),
        previous=jnp.full(batch, BOS, jnp.int32),
        has_ended=jnp.zeros(batch, bool),
        num_positions=jnp.zeros(batch, jnp.int32),
        is_in_row=is_in_row,
        log_p=jnp.zeros(shape, jnp.float32),
        cache=cache,
    )
    last = jax.lax.while_loop(
        partial(is_unfinished, end=first_end), sample_position, state
    )
    for end in ends:
        state = last._replace(cache=_grow(last.cache, init_cache(batch, end)))
        last = jax.lax.while_loop(
            partial(is_unfinished, end=end), sample_position, state
        )
    unmask_step = jnp.minimum(jnp.arange(length)[None], last.num_positions[:, None] - 1)
    unmask_step = jnp.where(template == MASK, unmask_step, -1)
    history = None
    if traced:  # no token changes later, so the final tokens determine the history
        is_there = unmask_step[None] <= jnp.arange(length)[:, None, None]
        history = jnp.where(is_there, last.x[None], MASK)
    return SampleOutput(
        last.x, unmask_step, last.position, last.num_positions, history, last.log_p
    )


def _cache_lengths(length: int) -> list[int]:
    """Successive lengths of the cache; the loop is compiled once for each.

    Every position reads the whole cache, so it should not be much longer than the text.

    >>> _cache_lengths(100), _cache_lengths(512)
    ([100], [128, 256, 384, 512])
    """
    num_parts = min(max(length // 128, 1), 4)
    return [length * part // num_parts for part in range(1, num_parts + 1)]


def _grow(cache: Cache, empty: Cache) -> Cache:
    """The longer, empty cache with the content of `cache`."""

    def put(old: Array, new: Array) -> Array:
        return jax.lax.dynamic_update_slice(new, old, (0,) * new.ndim)

    return jax.tree.map(put, cache, empty)


def without_cache(logits_fn: LogitsFn) -> tuple[InitCache, Decode]:
    """(init_cache, decode) of a plain logits_fn; the cache holds the inputs so far.

    logits_fn reads [BOS, x_0, ..., x_{L-2}], and its logits[:, l] are those of x_l.
    """

    def init_cache(batch: int, length: int) -> Cache:
        return jnp.full((batch, length), BOS, jnp.int32)

    def decode(
        params: Params, cache: Cache, token: Int[Array, " B"], position: Int[Array, ""]
    ) -> tuple[Float[Array, "B V"], Cache]:
        inputs = cache.at[:, position].set(token)
        return logits_fn(params, inputs)[:, position], inputs

    return init_cache, decode
