"""The reverse process, from all MASK to text: an unmasking policy on a time grid.

Plain ancestral sampling of one row. A test executes this code and checks that `run`
gives identical tokens:

    def ancestral(logits_fn, params, key, length, num_steps, alpha):
        z = jnp.full(length, MASK)
        for i in range(num_steps):
            t = jnp.float32((num_steps - i) / num_steps)
            s = jnp.float32((num_steps - i - 1) / num_steps)
            unmask_key, _, token_key = jax.random.split(jax.random.fold_in(key, i), 3)
            logits = text_logits(logits_fn(params, z[None], t[None])[0])
            x = draw(row_keys(token_key, jnp.arange(length)), logits)
            stays_masked = (1.0 - alpha(s)) / (1.0 - alpha(t))
            is_unmasked = ~jax.random.bernoulli(unmask_key, stays_masked, (length,))
            z = jnp.where((z == MASK) & is_unmasked, x, z)
        return z

The key of row b is fold_in(key, b). `run` also supports given tokens, other policies
and grids, temperature and truncation. It evaluates the head only at the positions that
are unmasked, and makes no network call in a step that unmasks none.

The same loop is the likelihood of a sampler. With `truth`, it writes x_l where it would
draw a token, and W is the product of the probabilities that these tokens had. If no
token is drawn and dropped, E[W] = p(x), the expectation over all other randomness. If
positions depend on visible tokens alone, there is none, and W = p(x).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from lm_jax.config import SampleConfig, require
from lm_jax.keys import fold_in_each, row_keys
from lm_jax.model.nll import text_logits
from lm_jax.sampling.decoding import (
    LogitsTransform,
    count_tokens,
    draw,
    forbid_eos,
    make_transform,
    repetition_penalty,
)
from lm_jax.types import (
    MASK,
    Logits,
    Params,
    PRNGKey,
    RowKeys,
    SampleOutput,
    TimedLogitsFn,
    Times,
    Tokens,
)
from mdlm_jax.schedule import SCHEDULES, Schedule, inverse

Scalar = Float[Array, ""]
Positions = Bool[Array, "B L"]
Features = Shaped[Array, "B L _"]  # input of the head
HiddenFn = Callable[[Params, Tokens, Times], Features]
HeadFn = Callable[[Params, Features], Logits]
# (penalty, how often each token occurs in the row) -> transform of the logits
Penalty = Callable[[float, Int[Array, "*B V"]], LogitsTransform]


class StepInfo(NamedTuple):
    """One step from t to s < t, as a policy sees it before the network is called.

    Attributes:
      u: a uniform number for each position, the same in every step.
      unmask_keys, remask_keys: keys of the rows in this step.
      z_t: current tokens.
      is_free: positions that this step may change: not given, and in the current block.
      alpha_t, alpha_s: probability that a token is unmasked, before and after the step.
      steps_left: number of steps from this one to the last one.
      psi: probability that each token had when it was unmasked.
    """

    u: Float[Array, "B L"]
    unmask_keys: RowKeys
    remask_keys: RowKeys
    z_t: Tokens
    is_free: Positions
    alpha_t: Scalar
    alpha_s: Scalar
    steps_left: Int[Array, ""]
    psi: Float[Array, "B L"]

    @property
    def is_masked(self) -> Positions:
        """Free positions that hold MASK."""
        return self.is_free & (self.z_t == MASK)

    @property
    def is_unmasked(self) -> Positions:
        """Free positions that hold a token."""
        return self.is_free & (self.z_t != MASK)


class StepPlan(NamedTuple):
    """Positions that a step unmasks and remasks.

    Attributes:
      unmask: positions to unmask, or the candidates for `UnmaskingPolicy.choose`.
      remask: unmasked positions that become MASK again.
      t: time for the network; None takes the time of the grid.
    """

    unmask: Positions
    remask: Positions
    t: Times | None = None


class Prediction(NamedTuple):
    """Output of the network at every position.

    Attributes:
      logits: logits of the model, before temperature and truncation; -inf at ids that
        are no text.
      propose: () -> (tokens as they would be drawn, their log-probabilities).
    """

    logits: Logits
    propose: Callable[[], tuple[Tokens, Float[Array, "B L"]]]


class UnmaskingPolicy(NamedTuple):
    """Which positions each step unmasks and remasks.

    Attributes:
      plan: decides what does not depend on the network.
      depends_on: what the positions depend on: "visible" (step, given text, and tokens
        that are unmasked), "random" (also draws that look at no token) or "drawn" (also
        tokens that are drawn and dropped). It decides whether the sampler has an exact
        likelihood, a bracket, or neither.
      choose: (info, candidates, prediction) -> positions to unmask; None unmasks all
        candidates.
      remasks: whether the policy ever remasks.
      is_adaptive: whether the policy itself decides how many steps it takes, so that
        `num_steps` has no effect.
    """

    plan: Callable[[StepInfo], StepPlan]
    depends_on: str
    choose: Callable[[StepInfo, Positions, Prediction], Positions] | None = None
    remasks: bool = False
    is_adaptive: bool = False


class GridPoint(NamedTuple):
    """Step i of a time grid.

    Attributes:
      alpha_t, alpha_s: probability that a token is unmasked, before and after the step.
      t: time for the network, one for each row.
      region: positions that the step may change.
    """

    alpha_t: Scalar
    alpha_s: Scalar
    t: Times
    region: Positions


class TimeGrid(NamedTuple):
    """A grid of times from 1 to 0.

    Attributes:
      num_steps: number of steps, after which nothing is masked.
      point: (i, z_t) -> grid point of step i.
    """

    num_steps: int
    point: Callable[[Int[Array, ""], Tokens], GridPoint]


def plain_penalty(penalty: float, counts: Int[Array, "*B V"]) -> LogitsTransform:
    """The usual repetition penalty, on every token that occurs in the row."""
    return repetition_penalty(penalty, counts > 0)


class Sampler(NamedTuple):
    """A sampler.

    Attributes:
      policy, grid: unmasking policy and time grid.
      penalty: repetition penalty.
      block_size: tokens per block that is complete before the next one begins; 0 if the
        window is not divided.
    """

    policy: UnmaskingPolicy
    grid: TimeGrid
    penalty: Penalty = plain_penalty
    block_size: int = 0


class SamplerState(NamedTuple):
    """State of the sampling loop.

    Attributes:
      i: number of the next step.
      z: tokens.
      unmask_step: step at which each token was unmasked.
      psi: probability that each token had then; zero unless the policy remasks.
      log_p, nfe, nfe_per_row, history: see `SampleOutput`.
    """

    i: Int[Array, ""]
    z: Tokens
    unmask_step: Tokens
    psi: Float[Array, "B L"]
    log_p: Float[Array, "B L"]
    nfe: Int[Array, ""]
    nfe_per_row: Int[Array, " B"]
    history: Int[Array, "T B L"] | None


def run(
    sampler: Sampler,
    hidden_fn: HiddenFn,
    head_fn: HeadFn,
    params: Params,
    key: PRNGKey,
    z_1: Tokens,
    cfg: SampleConfig,
    first_row: int | Int[Array, ""] | Int[Array, " B"] = 0,
    traced: bool = False,
    truth: Tokens | None = None,
) -> SampleOutput:
    """Samples rows of text, or replays the sampling of given text.

    Step i of row b draws from fold_in(fold_in(key, first_row + b), i). EOS is
    never drawn before the last given token, so that no text ends inside a gap.

    Args:
      sampler: the sampler, with the settings of `cfg`.
      hidden_fn, head_fn: head(params, hidden(params, z_t, t)) are the logits; the head
        may be evaluated at some positions only. `split_logits_fn` makes both of a plain
        logits_fn.
      params: parameters of the network.
      key: key of all rows.
      z_1: given tokens, which never change, and MASK elsewhere.
      cfg: temperature, truncation and penalty.
      first_row: see `language_model.Sample`.
      traced: whether to keep the tokens after every step.
      truth: text to write in place of the tokens that are drawn; a position where it
        has MASK stays masked.
    """
    policy, grid, penalty, _ = sampler
    batch, length = z_1.shape
    is_free = z_1 == MASK
    may_end = jnp.cumsum(~is_free[:, ::-1], axis=1)[:, ::-1] == 0
    if truth is not None:
        is_free = is_free & (truth != MASK)
    rows = row_keys(key, first_row + jnp.arange(batch))
    after_all_steps = fold_in_each(rows, jnp.int32(grid.num_steps))
    u = jax.vmap(partial(jax.random.uniform, shape=(length,)))(after_all_steps)
    chunk = min(length, 2 * math.ceil(length / grid.num_steps))

    def is_unfinished(state: SamplerState) -> Array:
        is_masked = jnp.any(is_free & (state.z == MASK))
        return (state.i < grid.num_steps) & (policy.remasks | is_masked)

    def step(state: SamplerState) -> SamplerState:
        i, z_t = state.i, state.z
        point = grid.point(i, z_t)
        keys = jax.vmap(partial(jax.random.split, num=3))(fold_in_each(rows, i))
        info = StepInfo(
            u=u,
            unmask_keys=keys[:, 0],
            remask_keys=keys[:, 1],
            z_t=z_t,
            is_free=is_free & point.region,
            alpha_t=point.alpha_t,
            alpha_s=point.alpha_s,
            steps_left=grid.num_steps - i,
            psi=state.psi,
        )
        plan = policy.plan(info)
        t = point.t if plan.t is None else plan.t
        tokens = _TokenSampler(keys[:, 2], z_t, t, may_end, cfg, penalty, chunk, truth)

        def call() -> tuple[Positions, _Written]:
            features, head = hidden_fn(params, z_t, t), partial(head_fn, params)
            unmask = plan.unmask
            if policy.choose is not None:
                features, head = head(features), lambda logits: logits
                unmask = policy.choose(info, unmask, tokens.predict(features))
            return unmask, tokens.unmask(features, head, unmask, before, policy.remasks)

        def skip() -> tuple[Positions, _Written]:
            return jnp.zeros_like(plan.unmask), before

        before = _Written(z_t, state.psi, state.log_p)
        is_active = jnp.any(plan.unmask, axis=1)
        is_any = jnp.any(is_active)
        unmask, after = jax.lax.cond(is_any, call, skip)
        z_s = jnp.where(plan.remask, MASK, after.z)
        history = state.history
        return SamplerState(
            i=i + 1,
            z=z_s,
            unmask_step=jnp.where(unmask, i, state.unmask_step),
            psi=after.psi,
            log_p=after.log_p,
            nfe=state.nfe + is_any.astype(jnp.int32),
            nfe_per_row=state.nfe_per_row + is_active.astype(jnp.int32),
            history=None if history is None else history.at[i].set(z_s),
        )

    start = SamplerState(
        i=jnp.int32(0),
        z=z_1,
        unmask_step=jnp.full(z_1.shape, -1, jnp.int32),
        psi=jnp.zeros(z_1.shape, jnp.float32),
        log_p=jnp.zeros(z_1.shape, jnp.float32),
        nfe=jnp.int32(0),
        nfe_per_row=jnp.zeros(batch, jnp.int32),
        history=jnp.zeros((grid.num_steps, *z_1.shape), jnp.int32) if traced else None,
    )
    end = jax.lax.while_loop(is_unfinished, step, start)
    history = end.history
    if history is not None:  # after an early end nothing changes
        is_past = jnp.arange(grid.num_steps) < end.i
        history = jnp.where(is_past[:, None, None], history, end.z[None])
    return SampleOutput(
        end.z, end.unmask_step, end.nfe, end.nfe_per_row, history, end.log_p
    )


def split_logits_fn(logits_fn: TimedLogitsFn) -> tuple[HiddenFn, HeadFn]:
    """(hidden_fn, head_fn) of a plain logits_fn; the head is the identity."""
    return logits_fn, lambda params, logits: logits


# Time grids.

TimeWarp = Callable[[Scalar], Scalar]


def uniform_grid(
    alpha: Schedule, num_steps: int, warp: TimeWarp = lambda t: t
) -> TimeGrid:
    """t_i = warp(1 - i / T); every step may change every position."""

    def point(i: Int[Array, ""], z_t: Tokens) -> GridPoint:
        t, alpha_t, alpha_s = interval(alpha, i, num_steps, warp)
        everywhere = jnp.ones(z_t.shape, bool)
        return GridPoint(alpha_t, alpha_s, jnp.full(z_t.shape[0], t), everywhere)

    return TimeGrid(num_steps, point)


def by_masked_fraction(alpha: Schedule, length: int) -> TimeGrid:
    """Grid of an adaptive policy: t is the time at which the masked fraction of the row
    is the expected one. At most one step for each position."""

    def point(i: Int[Array, ""], z_t: Tokens) -> GridPoint:
        _, alpha_t, alpha_s = interval(alpha, i, length)
        everywhere = jnp.ones(z_t.shape, bool)
        return GridPoint(alpha_t, alpha_s, time_of(alpha, z_t), everywhere)

    return TimeGrid(length, point)


def default_grid(
    policy: UnmaskingPolicy, cfg: SampleConfig, alpha: Schedule, length: int
) -> TimeGrid:
    """cfg.num_steps steps on cfg.grid, where 0 is one step for each position; an
    adaptive policy has its own number of steps."""
    if policy.is_adaptive:
        return by_masked_fraction(alpha, length)
    return uniform_grid(alpha, cfg.num_steps or length, grid_warp(cfg, alpha))


def grid_warp(cfg: SampleConfig, alpha: Schedule) -> TimeWarp:
    """Time warp of cfg.grid: steps are equally long in the time of that schedule.

    With cfg.num_steps=0 this is the linear schedule, which unmasks one token per step.

    Raises:
      ValueError: there is no such schedule.
    """
    named = SCHEDULES | {"": alpha}
    steps = named.get(cfg.grid) or by_step_sizes(cfg.grid)
    if not cfg.num_steps:
        steps = SCHEDULES["linear"]
    return (lambda t: t) if steps is alpha else lambda t: inverse(alpha, steps(t))


def by_step_sizes(grid: str) -> Schedule:
    """The schedule that unmasks n_i tokens in the i-th of T equal steps, "n_1,...,n_T".

    The n_i count as shares of their sum. Between the ends of steps it is linear.

    Raises:
      ValueError: the text is no list of positive integers.
    """
    parts = grid.split(",")
    require(
        all(part.strip().isdecimal() and int(part) > 0 for part in parts),
        f"SampleConfig.grid={grid!r} is unknown: choose '', one of "
        f"{', '.join(map(repr, SCHEDULES))}, or the tokens of each step, as in '2,5,9'",
    )
    shares = np.cumsum([0, *map(int, parts)]) / sum(map(int, parts))
    ends = np.linspace(0.0, 1.0, len(shares))
    return lambda t: jnp.interp(1.0 - t, ends, shares)


def time_of(alpha: Schedule, z_t: Tokens) -> Times:
    """t at which alpha(t) is the fraction of unmasked tokens."""
    return inverse(alpha, jnp.mean(z_t != MASK, axis=1, dtype=jnp.float32))


def interval(
    alpha: Schedule, i: Int[Array, ""], num_steps: int, warp: TimeWarp = lambda t: t
) -> tuple[Scalar, Scalar, Scalar]:
    """t, alpha(t) and alpha(s) of step i of T; alpha(s) is exactly 1 in the last."""
    t = warp((num_steps - i) / num_steps)
    s = (num_steps - i - 1) / num_steps
    return t, alpha(t), jnp.where(s == 0.0, 1.0, alpha(warp(s)))


# Helpers of policies.


def bernoulli(keys: RowKeys, p: Float[Array, "B L"]) -> Positions:
    """True with probability p, by the key of each row."""
    return jax.vmap(jax.random.bernoulli)(keys, p)


def rank(scores: Float[Array, "B L"]) -> Int[Array, "B L"]:
    """0 for the largest score of each row, ties from the left.

    >>> rank(jnp.array([[0.1, 0.7, 0.1]])).tolist()
    [[1, 0, 2]]
    """
    order = jnp.argsort(-scores, axis=1, stable=True)
    return jnp.argsort(order, axis=1)  # the inverse of a permutation


def masked_probability(alpha_t: Scalar) -> Scalar:
    """1 - alpha_t, as a divisor: positive where alpha_t rounds to 1."""
    return jnp.maximum(1.0 - alpha_t, jnp.finfo(jnp.float32).tiny)


class _Written(NamedTuple):
    """The tokens, and the psi and log_p of `SamplerState`."""

    z: Tokens
    psi: Float[Array, "B L"]
    log_p: Float[Array, "B L"]


class _TokenSampler(NamedTuple):
    """Draws the tokens of one step from the logits.

    Attributes:
      keys: keys of the rows in this step; position l draws from fold_in(key, l).
      z_t, t: input of the network.
      may_end: positions at which EOS may be drawn.
      cfg, penalty: temperature, truncation and repetition penalty.
      chunk: number of positions of every row that are drawn at a time.
      truth: tokens to write in place of those drawn.
    """

    keys: RowKeys
    z_t: Tokens
    t: Times
    may_end: Positions
    cfg: SampleConfig
    penalty: Penalty
    chunk: int
    truth: Tokens | None

    def predict(self, logits: Logits) -> Prediction:
        """The prediction for `UnmaskingPolicy.choose`."""
        allowed = forbid_eos(text_logits(logits), self.may_end)
        at = jnp.broadcast_to(jnp.arange(logits.shape[1]), self.z_t.shape)

        def propose() -> tuple[Tokens, Float[Array, "B L"]]:
            cut = self._transformed(allowed)
            x = draw(_position_keys(self.keys, at), cut)
            return x, _log_p(cut, x)

        return Prediction(allowed, propose)

    def unmask(
        self,
        features: Features,
        head: Callable[[Features], Logits],
        unmask: Positions,
        before: _Written,
        keeps_psi: bool,
    ) -> _Written:
        """x_l ~ p(x_l | z_t) at the positions to unmask, with psi and log_p there.

        The head and the noise over the vocabulary cost as much as the rest of the
        network, and a step unmasks few positions. So these are gathered, and drawn in
        chunks of `chunk` positions of every row.
        """
        unmasked_first = jnp.argsort(~unmask, axis=1, stable=True)
        most = jnp.max(jnp.sum(unmask, axis=1))

        def draw_chunk(state: tuple[Array, _Written]) -> tuple[Any, ...]:
            start, (z, psi, log_p) = state
            # At the end the slice is moved back, and draws some tokens again, with the
            # same keys.
            at = jax.lax.dynamic_slice_in_dim(unmasked_first, start, self.chunk, axis=1)
            take = partial(jnp.take_along_axis, indices=at, axis=1)
            logits = head(jnp.take_along_axis(features, at[..., None], axis=1))
            allowed = forbid_eos(text_logits(logits), take(self.may_end))
            cut = self._transformed(allowed)
            if self.truth is None:
                x = draw(_position_keys(self.keys, at), cut)
            else:
                x = take(self.truth)

            def put(old: Array, new: Array) -> Array:
                return _put(old, at, jnp.where(take(unmask), new, take(old)))

            if keeps_psi:
                psi = put(psi, jnp.exp(_log_p(allowed, x)))
            log_p = put(log_p, _log_p(cut, x))
            return start + self.chunk, _Written(put(z, x), psi, log_p)

        state = (jnp.int32(0), before)
        return jax.lax.while_loop(lambda s: s[0] < most, draw_chunk, state)[1]

    def _transformed(self, logits: Logits) -> Logits:
        """Penalty, then the temperature at t, then truncation."""
        cfg, share = self.cfg, None
        if cfg.repetition_penalty != 1.0:
            counts = count_tokens(self.z_t, logits.shape[-1])[:, None]
            counts = jnp.broadcast_to(counts, logits.shape)
            logits = self.penalty(cfg.repetition_penalty, counts)(logits)
        if cfg.annealing != 1.0:
            share = cfg.annealing + (1.0 - cfg.annealing) * self.t[:, None, None]
        return make_transform(cfg, share)(logits)


def _log_p(logits: Logits, x: Tokens) -> Float[Array, "B L"]:
    chosen = jnp.take_along_axis(logits, x[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def _position_keys(keys: RowKeys, at: Int[Array, "B L"]) -> Array:
    return jax.vmap(row_keys)(keys, at)


def _put(x: Array, at: Int[Array, "B L"], values: Array) -> Array:
    return jnp.put_along_axis(x, at, values, axis=1, inplace=False)
