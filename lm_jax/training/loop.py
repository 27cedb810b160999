"""The training loop: restore, step, hooks, stop."""

from collections.abc import Callable, Sequence
from pathlib import Path

import grain
import jax
from jax.sharding import Mesh

from lm_jax import checkpoint, distributed, progress, sharding
from lm_jax.config import Config
from lm_jax.keys import Stream, stream
from lm_jax.language_model import LanguageModel
from lm_jax.training import hooks as hooks_module
from lm_jax.training import metrics
from lm_jax.training.hooks import Hook, StepEvent
from lm_jax.training.metrics import TrainLogger
from lm_jax.training.optimizer import make_optimizer, make_schedule
from lm_jax.training.train_step import TrainState, init_state, make_train_step


def train(
    lm: LanguageModel,
    cfg: Config,
    batches: grain.DatasetIterator,
    workdir: str | Path,
    num_steps: int,
    *,
    hooks: Sequence[Hook] = (),
    mesh: Mesh | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    task: str = "training",
) -> TrainState:
    """Trains to step `num_steps`, from the last checkpoint or from scratch.

    A resumed run equals an uninterrupted one, bit for bit.

    Args:
      lm: language model.
      cfg: configuration of the run.
      batches: iterator over windows (B, L), with the rows of this process; its
        position is restored.
      workdir: directory for checkpoints/, metrics.jsonl, events and, at the end,
        training.json.
      num_steps: number of the last step; see `budget.num_steps`.
      hooks: hooks after every step; logging comes before them, and saving after.
      mesh: device mesh; default: one device.
      should_stop: () -> whether to save and return; called after each step.
      task: label of the progress bar.

    Raises:
      NonFiniteError: a loss is not finite; the message names step and batch.
      OSError: a checkpoint cannot be saved.
      ValueError: the checkpoint is of another model, or training.json exists without a
        checkpoint.
    """
    workdir, plan = Path(workdir), cfg.train
    flops_per_step = plan.batch_size * cfg.model.length * lm.flops_per_token
    tx = make_optimizer(cfg.optimizer, num_steps)
    learning_rate = make_schedule(cfg.optimizer, num_steps)

    def init() -> TrainState:
        return init_state(lm, tx, stream(cfg.seed, Stream.INIT), ema=plan.ema > 0)

    shardings = sharding.shardings(mesh, jax.eval_shape(init))
    train_step = make_train_step(
        lm,
        tx,
        stream(cfg.seed, Stream.STEPS),
        accumulation=plan.accumulation,
        ema=plan.ema,
        skips=plan.max_skipped > 0,
        shardings=shardings,
    )
    sync = distributed.SyncedFlags(mesh)
    with checkpoint.manager(workdir / checkpoint.DIRECTORY, plan.keep) as mngr:
        state, batches, totals = checkpoint.restore_latest(
            mngr, init, batches, shardings
        )
        step = int(state.step)
        if distributed.broadcast_from_zero(is_finished(workdir, num_steps)):
            return state
        _require_checkpoint(workdir, step)
        if step and distributed.is_process_zero():
            progress.note(f"{task}: goes on after step {step:,} of {num_steps:,}")
        with TrainLogger(
            workdir, totals, step, num_steps, flops_per_step, plan.max_skipped, task
        ) as logger:
            hooks = [
                hooks_module.log(plan.log_every, learning_rate),
                *hooks,
                hooks_module.save(plan.save_every, mngr, batches),
            ]
            event = StepEvent(step, state, logger)
            if step == 0:
                _call(hooks, event)
            is_late = distributed.broadcast_from_zero(logger.is_late(plan.max_seconds))
            event.is_last = is_late or step >= num_steps
            while not (event.is_last or event.is_stopped):
                step += 1
                x = next(batches)
                state, step_metrics = train_step(state, sharding.shard_batch(mesh, x))
                logger.add(step, x, step_metrics)
                is_late = logger.is_late(plan.max_seconds)
                is_late, is_stopped = sync(is_late, should_stop())
                is_last = is_late or step >= num_steps
                event = StepEvent(step, state, logger, is_last, is_stopped)
                _call(hooks, event)
            checkpoint.finish(mngr)
            logger.timer.lap("seconds_saving")
            if event.is_last:
                logger.finish(step)
    return state


def is_finished(workdir: str | Path, num_steps: int) -> bool:
    """Whether a run of `num_steps` has ended in `workdir` with its last checkpoint.

    A run that ended early by max_seconds counts as finished.
    """
    summary = metrics.read_summary(workdir)
    latest = checkpoint.latest_step(Path(workdir) / checkpoint.DIRECTORY)
    return bool(summary) and (
        summary["planned_steps"] == num_steps and summary["num_steps"] == latest
    )


def _call(hooks: Sequence[Hook], event: StepEvent) -> None:
    for hook in hooks:
        hook(event)


def _require_checkpoint(workdir: Path, step: int) -> None:
    """Raises ValueError if training.json exists but no checkpoint does."""
    has_summary = bool(metrics.read_summary(workdir))
    if distributed.broadcast_from_zero(step == 0 and has_summary):
        raise ValueError(
            f"{workdir / metrics.SUMMARY} says that training has ended, and "
            f"{workdir / checkpoint.DIRECTORY} holds no checkpoint: restore that "
            "directory, name another --workdir, or delete "
            f"{metrics.SUMMARY} to start over"
        )
