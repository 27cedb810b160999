"""The training loop: restore, step, record, save."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grain
import jax
from jax.sharding import Mesh

from lm_jax import checkpoint, distributed, sharding
from lm_jax.config import Config
from lm_jax.language_model import LanguageModel
from lm_jax.run_directory import CHECKPOINTS
from lm_jax.training import budget, hooks
from lm_jax.training.optimizer import make_optimizer
from lm_jax.training.train_step import TrainState, init_state, make_train_step
from lm_jax.types import Params

INIT, STEPS = 0, 1  # what the seed's key is folded with


def train(
    lm: LanguageModel,
    cfg: Config,
    batches: grain.DatasetIterator,
    workdir: str | Path,
    *,
    evaluate: Callable[[Params], Mapping[str, Any]],
    mesh: Mesh | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Trains from the last checkpoint in `workdir`, or from scratch, to the end.

    An interrupted run goes on as if it had never stopped, bit for bit; a finished run
    returns at once.

    Args:
      lm: the language model.
      cfg: everything that decides the run.
      batches: an iterator of windows (B, L), this process's rows of each; its position
        is restored.
      workdir: gets checkpoints/, metrics.jsonl, events and, at the end, training.json.
      evaluate: params -> {"nats_per_token", "standard_error", ...}. The parameters are
        donated later, so it may not keep them.
      mesh: default: one device.
      should_stop: asked after each step; True saves and returns.

    Raises:
      NonFiniteError: a loss is not finite; names the step and the batch.
      OSError: nothing can be saved.
      ValueError: the checkpoint is of another model.
    """
    workdir, plan = Path(workdir), cfg.train
    num_steps = budget.num_steps(plan, cfg.model.length, lm.flops_per_token)
    flops_per_step = plan.batch_size * cfg.model.length * lm.flops_per_token
    key = jax.random.key(cfg.seed)
    tx = make_optimizer(cfg.optimizer, num_steps)

    def init() -> TrainState:
        return init_state(lm, tx, jax.random.fold_in(key, INIT), ema=plan.ema > 0)

    places = sharding.shardings(mesh, jax.eval_shape(init))
    train_step = make_train_step(
        lm,
        tx,
        jax.random.fold_in(key, STEPS),
        accumulation=plan.accumulation,
        ema=plan.ema,
        skips=plan.max_skipped > 0,
        shardings=places,
    )
    agree = distributed.SyncedFlags(mesh)
    with checkpoint.manager(workdir / CHECKPOINTS, plan.keep) as mngr:
        state, batches, totals = checkpoint.restore_latest(mngr, init, batches, places)
        step = int(state.step)
        if distributed.broadcast_from_zero(is_finished(workdir, num_steps)):
            return state
        if distributed.broadcast_from_zero(
            step == 0 and bool(hooks.read_summary(workdir))
        ):
            raise ValueError(
                f"{workdir / hooks.SUMMARY} says that training has ended, and "
                f"{workdir / CHECKPOINTS} holds no checkpoint: bring that directory "
                f"back, name another --workdir, or delete {hooks.SUMMARY} to start over"
            )
        with hooks.TrainLogger(
            lm.name, workdir, totals, step, num_steps, flops_per_step, plan.max_skipped
        ) as record:
            if step == 0:
                record.validate(step, evaluate, sharding.gathered(state.averaged))
            is_late, is_stopped = record.is_late(plan.max_seconds), False
            is_over = distributed.broadcast_from_zero(is_late) or step >= num_steps
            while not (is_over or is_stopped):
                step += 1
                x = next(batches)
                state, metrics = train_step(state, sharding.shard_batch(mesh, x))
                record.add(step, x, metrics)
                is_late = record.is_late(plan.max_seconds)
                is_late, is_stopped = agree(is_late, should_stop())
                is_over, scores = is_late or step >= num_steps, None
                if is_over or step % plan.log_every == 0:
                    record.log(step)
                if is_over or step % plan.eval_every == 0:
                    params = sharding.gathered(state.averaged)
                    scores = record.validate(step, evaluate, params)
                    del params  # it may be a second copy
                if scores or is_stopped or step % plan.save_every == 0:
                    checkpoint.save(mngr, state, batches, record.totals(), scores)
                    record.timer.lap("seconds_saving")
            checkpoint.finish(mngr)
            record.timer.lap("seconds_saving")
            if is_over:
                record.finish(step)
    return state


def is_finished(workdir: str | Path, num_steps: int) -> bool:
    """Whether a run of `num_steps` has ended here, and its last checkpoint is there.

    A run that max_seconds ended is finished as well.
    """
    summary = hooks.read_summary(workdir)
    return bool(summary) and (
        summary["planned_steps"] == num_steps
        and summary["num_steps"] == checkpoint.latest_step(Path(workdir) / CHECKPOINTS)
    )
