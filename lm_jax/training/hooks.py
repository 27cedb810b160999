"""Hooks of the training loop: log, validate, sample, save, and custom ones.

A hook is called after every step, and before the first one if training starts from
scratch:

    def print_norm(event: StepEvent) -> None:
        if event.is_due(every=100):
            print(event.step, optax.tree.norm(event.params()))

    run.train(family, cfg, workdir, hooks=[print_norm])
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np
import optax
import orbax.checkpoint as ocp

from lm_jax import checkpoint, sharding
from lm_jax.training.metrics import TrainLogger
from lm_jax.training.nonfinite import require_finite
from lm_jax.training.train_step import TrainState
from lm_jax.types import Params


@dataclasses.dataclass
class StepEvent:
    """State of training after a step, for hooks.

    Attributes:
      step: number of steps taken.
      state: training state. The next step donates it, so a hook must not keep it.
      logger: metrics of the run; `logger.write` adds a line.
      is_last: whether the run is finished.
      is_stopped: whether this call ends early; a later one continues the run.
      scores: validation scores of this step, if there was a validation.
    """

    step: int
    state: TrainState
    logger: TrainLogger
    is_last: bool = False
    is_stopped: bool = False
    scores: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def is_due(self, every: int) -> bool:
        """Whether the step is a multiple of `every`, as 0 is, or the last one."""
        return self.is_last or self.step % every == 0

    def params(self) -> Params:
        """The parameters to evaluate, unsharded, on one device of this process."""
        return sharding.gathered(self.state.averaged)


Hook = Callable[[StepEvent], None]


def log(every: int, learning_rate: optax.Schedule) -> Hook:
    """Hook that writes mean loss, mean gradient norm, learning rate and speed."""

    def hook(event: StepEvent) -> None:
        if event.step and event.is_due(every):
            values = event.logger.metrics.means()
            values["learning_rate"] = float(np.asarray(learning_rate(event.step - 1)))
            event.logger.write(event.step, "train", values)

    return hook


def validate(every: int, score: Callable[[Params], Mapping[str, Any]]) -> Hook:
    """Hook that writes validation scores.

    It raises NonFiniteError if the validation loss is not finite.

    Args:
      every: number of steps between two validations.
      score: params -> {"nats_per_token", "standard_error", ...}; it must not keep the
        parameters.
    """

    def hook(event: StepEvent) -> None:
        if not event.is_due(every):
            return
        event.logger.metrics.read()
        scores = score(event.params())
        event.logger.timer.lap("seconds_evaluating")
        loss = float(scores["nats_per_token"])
        require_finite(loss, f"validation loss at step {event.step}", event.step)
        event.scores = {name: float(value) for name, value in scores.items()}
        event.logger.write(event.step, "validation", event.scores)

    return hook


def sample(every: int, draw: Callable[[Params], Sequence[str]]) -> Hook:
    """Hook that writes a few sampled texts.

    Args:
      every: number of steps between two calls.
      draw: params -> texts.
    """

    def hook(event: StepEvent) -> None:
        if event.step and event.is_due(every):
            event.logger.metrics.read()
            texts = list(draw(event.params()))
            event.logger.timer.lap("seconds_sampling")
            event.logger.write(event.step, "samples", {"texts": texts})

    return hook


def save(
    every: int, mngr: ocp.CheckpointManager, batches: grain.DatasetIterator
) -> Hook:
    """Hook that saves a checkpoint, also after a validation and at the end."""

    def hook(event: StepEvent) -> None:
        is_end = event.is_stopped or event.is_due(every)
        if event.step and (event.scores or is_end):
            totals = event.logger.totals()
            checkpoint.save(mngr, event.state, batches, totals, event.scores)
            event.logger.timer.lap("seconds_saving")

    return hook
