"""The train step: a pure, jitted function of the (donated) state and a batch."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array

from lm_jax.language_model import LanguageModel
from lm_jax.types import PAD, Params, PRNGKey, Rows, Tokens

Metrics = dict[str, Array]


@struct.dataclass
class TrainState:
    """State that a step updates; random keys are derived from `step`, not stored.

    Attributes:
      step: number of steps taken.
      params, opt_state: parameters, and the state of the optimizer.
      ema: moving average of the parameters, or None.
    """

    step: Any  # int32 scalar; Any, as a pytree also holds shapes and shardings
    params: Any
    opt_state: Any
    ema: Any = None

    @property
    def averaged(self) -> Params:
        """The parameters to evaluate: the average, or `params` without one."""
        return self.params if self.ema is None else self.ema


TrainStep = Callable[[TrainState, Tokens], tuple[TrainState, Metrics]]


def init_state(
    lm: LanguageModel, tx: optax.GradientTransformation, key: PRNGKey, ema: bool = False
) -> TrainState:
    """The state before the first step."""
    params = lm.init(key)
    average = jax.tree.map(jnp.copy, params) if ema else None
    return TrainState(
        step=jnp.int32(0), params=params, opt_state=tx.init(params), ema=average
    )


def make_train_step(
    lm: LanguageModel,
    tx: optax.GradientTransformation,
    key: PRNGKey,
    *,
    accumulation: int = 1,
    ema: float = 0.0,
    skips: bool = False,
    shardings: Any = None,
) -> TrainStep:
    """Makes the train step, which follows the gradient of sum(nats) / num_tokens.

    Both sums are over the whole batch, so every token has the same weight in all
    microbatches and on all devices. Step s draws from fold_in(key, s) and the row.

    Args:
      lm: language model.
      tx: optimizer.
      key: key of all steps.
      accumulation: number of microbatches per step.
      ema: decay of the averaged parameters; 0 is no average.
      skips: whether a step with a non-finite loss or gradient changes only `step`.
      shardings: shardings of the state, before and after the step.

    Returns:
      train_step: (state, x) -> (state, {"loss", "grad_norm", "num_tokens"}); the input
        state is donated.
    """

    def nats(params: Params, x: Tokens, step: jax.Array, rows: Rows) -> jax.Array:
        # All microbatches have the same key, as the noise also depends on the row. It
        # is derived inside the scan, where JAX's key-reuse checker accepts this.
        step_key = jax.random.fold_in(key, step)
        return jnp.sum(lm.token_nll(params, x, step_key, rows=rows))

    def nats_and_grads(params: Params, x: Tokens, step: jax.Array):
        if accumulation == 1:
            return jax.value_and_grad(nats)(params, x, step, Rows.of(x))
        # Microbatch a has rows a, a + A, a + 2 A, ..., so no row moves between devices.
        total = x.shape[0]
        split = partial(_split_microbatches, num_microbatches=accumulation)
        rows = split(jnp.arange(total))

        def add(sums, microbatch):
            x_a, index = microbatch
            terms = jax.value_and_grad(nats)(params, x_a, step, Rows(index, total))
            return jax.tree.map(jnp.add, sums, terms), None

        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        return jax.lax.scan(add, (jnp.float32(0.0), zeros), (split(x), rows))[0]

    @partial(jax.jit, donate_argnames="state", out_shardings=(shardings, None))
    def train_step(state: TrainState, x: Tokens) -> tuple[TrainState, Metrics]:
        num_tokens = jnp.sum(x != PAD)
        sums = nats_and_grads(state.params, x, state.step)
        loss, grads = jax.tree.map(lambda total: total / num_tokens, sums)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "num_tokens": num_tokens,
        }
        new = TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            ema=_average(state.ema, params, state.step, ema),
        )
        if skips:
            is_finite = jnp.isfinite(loss) & jnp.isfinite(metrics["grad_norm"])
            old = dataclasses.replace(state, step=new.step)
            new = jax.tree.map(partial(jnp.where, is_finite), new, old)
        return new, metrics

    return train_step


def _split_microbatches(x: jax.Array, num_microbatches: int) -> jax.Array:
    """(A M, ...) -> (A, M, ...): row r goes to microbatch r mod A."""
    return jnp.swapaxes(x.reshape(-1, num_microbatches, *x.shape[1:]), 0, 1)


def _average(average: Params, params: Params, step: jax.Array, decay: float) -> Params:
    """average + (1 - d) (params - average), d = min(decay, (1 + step) / (10 + step)).

    With the smaller decay of the first steps, the average forgets the initial
    parameters.
    """
    if average is None:
        return None
    d = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: a + (1 - d) * (p - a), average, params)
