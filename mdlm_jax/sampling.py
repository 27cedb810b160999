"""The reverse process: from all MASK to text = clock x rule x loop.

alpha_t -> alpha_s     which noise levels are visited: the clock
rule                   which masked positions open from t to s < t, and which shut
x_l ~ p(x_l | z_t)     what is written where a position opens
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from lm_jax.config import SampleConfig
from lm_jax.model.nll import text_logits
from lm_jax.sampling.decoding import (
    Template,
    count_tokens,
    draw,
    fold_in_each,
    full_template,
    make_transform,
)
from lm_jax.sampling.presets import resolve_sampler_config
from lm_jax.types import (
    EOS,
    MASK,
    Logits,
    Params,
    PRNGKey,
    RowKeys,
    SampleOutput,
    TimedLogitsFn,
    Times,
    Tokens,
    row_keys,
)
from mdlm_jax.rules import Sight, Step, Where
from mdlm_jax.samplers import PRESETS, SAMPLERS, Penalty
from mdlm_jax.schedule import Schedule, linear

Features = Shaped[Array, "B L _"]  # what the head reads
Features_fn = Callable[[Params, Tokens, Times], Features]
Head = Callable[[Params, Features], Logits]


class Canvas(NamedTuple):
    """What the loop carries from step to step.

    Attributes:
      i: the step that comes next.
      z: the tokens.
      unmask_step: when each was written.
      psi: the probability that each had then; zero unless the rule remasks.
      nfe, nfe_per_row, history: as in `SampleOutput`.
    """

    i: Int[Array, ""]
    z: Tokens
    unmask_step: Tokens
    psi: Float[Array, "B L"]
    nfe: Int[Array, ""]
    nfe_per_row: Int[Array, " B"]
    history: Int[Array, "T B L"] | None


def sample(
    hidden_fn: Features_fn,
    head_fn: Head,
    params: Params,
    key: PRNGKey,
    shape: tuple[int, int],
    cfg: SampleConfig,
    template: Template | None = None,
    first_row: int | Int[Array, ""] = 0,
    traced: bool = False,
    alpha: Schedule = linear,
) -> SampleOutput:
    """Rows of text by the sampler that cfg names; "" is "ancestral".

    A token that the template gives never changes. To the left of the last given token
    no EOS is drawn: the text in a gap goes on to what is given behind it. Step i of row
    b draws from fold_in(fold_in(key, first_row + b), i). A step in which no position of
    any row can open calls no network.

    Args:
      hidden_fn, head_fn: head(params, hidden(params, z_t, t)) are the logits, and the
        head may run at chosen positions only; `whole` makes both of a plain logits_fn.
      params, key, shape, cfg, template, first_row, traced: see `LanguageModel.sample`.
      alpha: the masking schedule.

    Raises:
      ValueError: there is no such sampler, or the template has another shape.
    """
    batch, length = shape
    cfg = resolve_sampler_config(cfg, tuple(SAMPLERS), PRESETS)
    rule, clock, penalty = SAMPLERS[cfg.sampler](cfg, alpha, length)
    z_1 = full_template(template, shape)
    is_free = z_1 == MASK
    may_end = jnp.cumsum(~is_free[:, ::-1], axis=1)[:, ::-1] == 0
    rows = row_keys(key, first_row + jnp.arange(batch))
    after_all_steps = fold_in_each(rows, jnp.int32(clock.num_steps))
    u = jax.vmap(partial(jax.random.uniform, shape=(length,)))(after_all_steps)
    chunk = min(length, 2 * math.ceil(length / clock.num_steps))

    def is_unfinished(canvas: Canvas) -> Array:
        is_masked = jnp.any(canvas.z == MASK)
        return (canvas.i < clock.num_steps) & (rule.remasks | is_masked)

    def step(canvas: Canvas) -> Canvas:
        i, z_t = canvas.i, canvas.z
        now = clock.moment(i, z_t)
        keys = jax.vmap(partial(jax.random.split, num=3))(fold_in_each(rows, i))
        view = Step(
            u=u,
            open_keys=keys[:, 0],
            shut_keys=keys[:, 1],
            z_t=z_t,
            is_free=is_free & now.region,
            alpha_t=now.alpha_t,
            alpha_s=now.alpha_s,
            steps_left=clock.num_steps - i,
            psi=canvas.psi,
        )
        plan = rule.plan(view)
        t = now.t if plan.t is None else plan.t
        decoder = Decoder(keys[:, 2], z_t, t, may_end, cfg, penalty, chunk)

        def call() -> tuple[Tokens, Where, Float[Array, "B L"]]:
            features, head = hidden_fn(params, z_t, t), partial(head_fn, params)
            opens = plan.opens
            if rule.choose is not None:
                features, head = head(features), lambda logits: logits
                sight = decoder.look(features)
                opens = rule.choose(view, plan.opens, sight)
            z, psi = decoder.write(features, head, opens, canvas.psi, rule.remasks)
            return z, opens, psi

        def rest() -> tuple[Tokens, Where, Float[Array, "B L"]]:
            return z_t, jnp.zeros_like(plan.opens), canvas.psi

        is_active = jnp.any(plan.opens, axis=1)
        is_any = jnp.any(is_active)
        z, opens, psi = jax.lax.cond(is_any, call, rest)
        z_s = jnp.where(plan.shuts, MASK, z)
        history = canvas.history
        return Canvas(
            i=i + 1,
            z=z_s,
            unmask_step=jnp.where(opens, i, canvas.unmask_step),
            psi=psi,
            nfe=canvas.nfe + is_any.astype(jnp.int32),
            nfe_per_row=canvas.nfe_per_row + is_active.astype(jnp.int32),
            history=None if history is None else history.at[i].set(z_s),
        )

    start = Canvas(
        i=jnp.int32(0),
        z=z_1,
        unmask_step=jnp.full(shape, -1, jnp.int32),
        psi=jnp.zeros(shape, jnp.float32),
        nfe=jnp.int32(0),
        nfe_per_row=jnp.zeros(batch, jnp.int32),
        history=jnp.zeros((clock.num_steps, *shape), jnp.int32) if traced else None,
    )
    end = jax.lax.while_loop(is_unfinished, step, start)
    history = end.history
    if history is not None:  # after an early end nothing changes
        is_past = jnp.arange(clock.num_steps) < end.i
        history = jnp.where(is_past[:, None, None], history, end.z[None])
    return SampleOutput(end.z, end.unmask_step, end.nfe, end.nfe_per_row, history)


def whole(logits_fn: TimedLogitsFn) -> tuple[Features_fn, Head]:
    """(hidden_fn, head_fn) of a plain logits_fn: the head has nothing left to do."""
    return logits_fn, lambda params, logits: logits


class Decoder(NamedTuple):
    """From what the network says in a step to tokens.

    Attributes:
      keys: of the rows in this step; that of position l is fold_in(key, l).
      z_t, t: what the network was given.
      may_end: where EOS may be drawn.
      cfg, penalty: how logits are cut.
      chunk: positions of every row that are drawn at a time.
    """

    keys: RowKeys
    z_t: Tokens
    t: Times
    may_end: Where
    cfg: SampleConfig
    penalty: Penalty
    chunk: int

    def look(self, logits: Logits) -> Sight:
        """All that a rule may ask of the logits."""
        allowed = _allowed(logits, self.may_end)
        at = jnp.broadcast_to(jnp.arange(logits.shape[1]), self.z_t.shape)

        def propose() -> tuple[Tokens, Float[Array, "B L"]]:
            cut = self._cut(allowed)
            x = draw(_position_keys(self.keys, at), cut)
            return x, _log_p(cut, x)

        return Sight(allowed, propose)

    def write(
        self,
        features: Features,
        head: Callable[[Features], Logits],
        opens: Where,
        psi: Float[Array, "B L"],
        remembers: bool,
    ) -> tuple[Tokens, Float[Array, "B L"]]:
        """z_t with x_l ~ p(x_l | z_t) at the positions that open, and psi there.

        The head and the noise over the vocabulary cost as much as the rest of the
        network, and a step opens few positions: they are gathered, and drawn `chunk` of
        every row at a time until none is left.
        """
        opening_first = jnp.argsort(~opens, axis=1, stable=True)
        most = jnp.max(jnp.sum(opens, axis=1))

        def draw_chunk(state: tuple[Array, Tokens, Array]) -> tuple[Any, ...]:
            start, z, psi = state
            # Near the end the slice is moved back: it draws some again, same keys.
            at = jax.lax.dynamic_slice_in_dim(opening_first, start, self.chunk, axis=1)
            take = partial(jnp.take_along_axis, indices=at, axis=1)
            logits = head(jnp.take_along_axis(features, at[..., None], axis=1))
            allowed = _allowed(logits, take(self.may_end))
            x = draw(_position_keys(self.keys, at), self._cut(allowed))
            is_open = take(opens)
            z = _put(z, at, jnp.where(is_open, x, take(z)))
            if remembers:
                p = jnp.exp(_log_p(allowed, x))
                psi = _put(psi, at, jnp.where(is_open, p, take(psi)))
            return start + self.chunk, z, psi

        state = (jnp.int32(0), self.z_t, psi)
        _, z, psi = jax.lax.while_loop(lambda s: s[0] < most, draw_chunk, state)
        return z, psi

    def _cut(self, logits: Logits) -> Logits:
        """Penalty, temperature at t, then the cuts."""
        cfg, share = self.cfg, None
        if cfg.repetition_penalty != 1.0:
            counts = count_tokens(self.z_t, logits.shape[-1])[:, None]
            counts = jnp.broadcast_to(counts, logits.shape)
            logits = self.penalty(cfg.repetition_penalty, counts)(logits)
        if cfg.annealing != 1.0:
            share = cfg.annealing + (1.0 - cfg.annealing) * self.t[:, None, None]
        return make_transform(cfg, share)(logits)


def _allowed(logits: Logits, may_end: Where) -> Logits:
    """Text only, and no EOS where the text must go on."""
    is_eos = (jnp.arange(logits.shape[-1]) == EOS)[None, None]
    return jnp.where(is_eos & ~may_end[..., None], -jnp.inf, text_logits(logits))


def _log_p(logits: Logits, x: Tokens) -> Float[Array, "B L"]:
    chosen = jnp.take_along_axis(logits, x[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def _position_keys(keys: RowKeys, at: Int[Array, "B L"]) -> Array:
    return jax.vmap(row_keys)(keys, at)


def _put(x: Array, at: Int[Array, "B L"], values: Array) -> Array:
    return jnp.put_along_axis(x, at, values, axis=1, inplace=False)
