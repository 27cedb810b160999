"""A run: a family trained in its directory, by one process or by several."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from lm_jax import checkpoint, distributed, files, run_directory, sharding
from lm_jax.config import Config
from lm_jax.data import dataset
from lm_jax.data.batches import batch_indices, train_batches
from lm_jax.evaluation.likelihood import row_log_likelihood, score
from lm_jax.language_model import LanguageModel
from lm_jax.run_directory import Run
from lm_jax.sampling.presets import resolve_sampler_config
from lm_jax.training import budget, loop, nonfinite
from lm_jax.training.optimizer import make_optimizer
from lm_jax.types import Params, Windows

VALIDATION = 2  # what the seed's key is folded with


def train(
    family: Callable[[Config], LanguageModel],
    cfg: Config,
    workdir: str | Path,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains a model in `workdir`, from where an earlier call stopped.

    Every process of a run calls this, with the same arguments, and sees the same files.

    Returns:
      Whether the training is finished; False where should_stop asked for an early end.

    Raises:
      ValueError: the directory belongs to another run, another process writes to it,
        or the data do not fit.
      NonFiniteError: the loss is not finite; what it takes to see that again lies in
        workdir/fault_<step>.
      OSError: the directory cannot be read or written.
    """
    workdir, lm = Path(workdir), family(cfg)
    resolve_sampler_config(
        cfg.sample, lm.samplers, lm.presets
    )  # an unknown sampler is named now
    num_steps = budget.num_steps(cfg.train, cfg.model.length, lm.flops_per_token)
    make_optimizer(cfg.optimizer, num_steps)
    mesh = sharding.make_mesh(
        cfg.train.batch_size // cfg.train.accumulation, fsdp=cfg.train.fsdp_devices
    )
    with nonfinite.io_error_context(cfg.data.cache_dir):
        data = distributed.process_zero_first(lambda: dataset.load(cfg))
    if distributed.broadcast_from_zero(loop.is_finished(workdir, num_steps)):
        run_directory.require_same(workdir, lm.name, cfg)
        run_directory.require_same_text(workdir, lm.name, data)
        return True
    batches = train_batches(
        data.train,
        cfg.train.batch_size,
        cfg.seed,
        jax.process_index(),
        jax.process_count(),
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(nonfinite.io_error_context(workdir, _what_is_left(workdir)))
        if distributed.is_process_zero():
            stack.enter_context(files.only_writer(workdir))
            stack.enter_context(_fault_dump(cfg, workdir, data.train))
        run = distributed.process_zero_first(
            lambda: run_directory.create(workdir, lm.name, cfg, data)
        )
        loop.train(
            lm,
            cfg,
            batches,
            workdir,
            evaluate=_make_validation(lm, cfg, run),
            mesh=mesh,
            should_stop=should_stop,
        )
    distributed.process_zero_first(lambda: None)  # its last files are there
    return distributed.broadcast_from_zero(loop.is_finished(workdir, num_steps))


def _what_is_left(workdir: Path) -> Callable[[], str]:
    def what_is_left() -> str:
        step = checkpoint.latest_step(workdir / run_directory.CHECKPOINTS)
        return "no checkpoint" if step is None else f"the checkpoint of step {step}"

    return what_is_left


@contextlib.contextmanager
def _fault_dump(cfg: Config, workdir: Path, windows: Windows) -> Iterator[None]:
    """Keeps the batch whose loss is not finite."""
    try:
        yield
    except nonfinite.NonFiniteError as error:
        order = batch_indices(len(windows), cfg.train.batch_size, cfg.seed)
        numbers = np.asarray(order[error.step - 1])
        nonfinite.dump(
            workdir / f"fault_{error.step}",
            error,
            numbers,
            windows[numbers],
            seed=cfg.seed,
            checkpoint=checkpoint.latest_step(workdir / run_directory.CHECKPOINTS),
        )
        raise


def _make_validation(
    lm: LanguageModel, cfg: Config, run: Run
) -> Callable[[Params], dict[str, float]]:
    """The learning curve's score: always the same windows and the same masks."""
    held_out = run.valid[: cfg.train.eval_windows]
    log_likelihood = row_log_likelihood(lm)

    def validate(params: Params) -> dict[str, float]:
        found = score(
            lm,
            params,
            held_out,
            dataset.num_bytes(run.tokenizer, held_out),
            key=jax.random.fold_in(jax.random.key(cfg.seed), VALIDATION),
            num_draws=cfg.train.eval_draws,
            batch_size=cfg.evaluate.batch_size,
            log_likelihood=log_likelihood,
        )
        return {name: found[name] for name in ("nats_per_token", "standard_error")}

    return validate
