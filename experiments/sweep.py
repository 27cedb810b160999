"""Sweeps: runs each trial of a study once, with any number of processes.

Two processes with the same command share the work.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import jobs
from lm_jax import files, signals
from lm_jax.config import Config
from lm_jax.data import dataset
from lm_jax.training import metrics
from lm_jax.training.malloc import disable_malloc_trim

DONE = "cell.json"  # numbers of a finished trial, in its directory


def replace_fields(cfg: Config, values: Mapping[str, Any]) -> Config:
    """`cfg` with some fields replaced: {"model.tied_head": False}.

    Raises:
      ValueError: if there is no such field, or if the values are inconsistent.
    """
    tree = cfg.to_config_dict().to_dict()
    for path, value in values.items():
        section, _, field = path.rpartition(".")
        (tree[section] if section else tree)[field] = value
    return Config.from_dict(tree)


def finish(
    paths: Sequence[Path],
    work: Callable[[int], bool],
    configs: Sequence[Config] | None = None,
) -> bool:
    """Runs each trial in turn, except those that are finished or run elsewhere.

    Args:
      paths: directory of each trial.
      work: number of the trial -> whether it is finished; False stops the sweep.
      configs: config of each trial. A trial that was finished with another config runs
        again. Default: any finished trial counts as finished.

    Returns:
      Whether all trials are finished. False if other processes are still working.
    """

    def is_done(number: int) -> bool:
        path = paths[number] / DONE
        if configs is None or not files.exists(path):
            return files.exists(path)
        return files.read_json(path).get("config") == configs[number].to_dict()

    for number, path in enumerate(paths):
        with _claimed(path) as is_mine:
            if is_mine and not is_done(number) and not work(number):
                return False
    return all(map(is_done, range(len(paths))))


def numbers(path: Path) -> dict[str, Any]:
    """The numbers of the finished trial in this directory."""
    found = files.read_json(path / DONE)
    return {name: value for name, value in found.items() if name != "config"}


def run_sweep(
    study: Callable[..., Any],
    cfg: Config,
    report: Path,
    at_once: int,
    **arguments: Any,
) -> None:
    """Runs the unfinished trials of a study, and prints its report.

    Args:
      study: (cfg, **arguments, should_stop) -> a true value once all trials are
        finished. Processes that call it at the same time share the trials.
      cfg: configuration of the study.
      report: path of the report, which the study writes at its end.
      at_once: number of trials that go on side by side.
      **arguments: further arguments of the study, as JSON values.
    """
    disable_malloc_trim(cfg)
    with signals.finish_step() as should_stop:
        if at_once > 1:
            dataset.load(cfg)  # prepared once, before all read it
            work = {
                "study": f"{study.__module__}.{study.__qualname__}",
                "config": cfg.to_dict(),
                "arguments": arguments,
            }
            todo = [jobs.Job(f"worker {i + 1}", work) for i in range(at_once)]
            jobs.run_jobs(f"{__name__}.share", todo, at_once, should_stop)
        is_finished = not should_stop() and study(
            cfg, **arguments, should_stop=should_stop
        )
    print(
        report.read_text(encoding="utf-8")
        if is_finished
        else "not finished: run the same command again to continue"
    )


def share(study: str, config: dict[str, Any], arguments: dict[str, Any]) -> bool:
    """A job of `run_sweep`: runs trials that no other process has taken.

    Returns:
      Whether all trials of the study are finished.
    """
    module, _, name = study.rpartition(".")
    cfg = Config.from_dict(config)
    disable_malloc_trim(cfg)
    with signals.finish_step(announce=False) as should_stop:
        found = getattr(importlib.import_module(module), name)(
            cfg, **arguments, should_stop=should_stop
        )
    return found is not None


def learning_curves(path: Path) -> dict[str, list[list[float]]]:
    """Points [step, nats per token, standard error] of a run, by split."""
    lines = metrics.read_metrics(path)
    return {
        split: [
            [line["step"], line["nats_per_token"], line.get("standard_error", 0.0)]
            for line in lines
            if line["split"] == split and "nats_per_token" in line
        ]
        for split in ("train", "validation")
    }


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Locks this trial until the end of the context; yields whether that succeeded."""
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as file:  # the lock of a killed process is released
        yield files.lock(file)
