"""Trains both families on corpora of different sizes for the same number of tokens."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments import sweep
from experiments.families import FAMILIES, own_configs
from experiments.provenance import made_by
from experiments.repeated_data.report import figure, markdown
from lm_jax import files, run
from lm_jax.config import Config
from lm_jax.data import dataset

FORMAT = 1  # of data_constrained.json
# Divisors of the number of documents, by arm; an arm is a kind of regularisation.
SHARES = {"plain": (1, 4, 16, 64), "dropout": (16, 64), "decay": (16, 64)}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"model.dropout": 0.1},
    "decay": {"optimizer.weight_decay": 0.3},
}


class Trial(NamedTuple):
    """One training run: divisor of the corpus size, arm, family label and seed."""

    share: int
    arm: str
    label: str
    seed: int

    def path(self, workdir: Path) -> Path:
        """Directory of the run."""
        name = f"{self.arm}_{self.share}"
        return workdir / name / f"seed_{self.seed}" / self.label.lower()


def data_constrained(
    cfg: Config,
    workdir: str | Path,
    num_stories: int,
    command: str = "",
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Runs all trials; returns the content of data_constrained.json.

    Args:
      cfg: configuration of all runs.
      workdir: directory of the runs and of the results.
      num_stories: number of documents of the largest corpus.
      command: command line, which is stored with the results.
      should_stop: called after each training step; True saves and ends early.

    Returns:
      The results, or None if it stopped early or other processes are still working.
    """
    workdir = Path(workdir)
    todo = [
        Trial(share, arm, label, cfg.seed + i)
        for i in range(cfg.num_seeds)
        for arm in ARMS
        for share in SHARES[arm]
        for label in FAMILIES
    ]

    def work(number: int) -> bool:
        return _finish(cfg, workdir, todo[number], num_stories, should_stop)

    configs = [trial_config(cfg, trial, num_stories) for trial in todo]
    if not sweep.finish([trial.path(workdir) for trial in todo], work, configs):
        return None
    whole = {
        "format": FORMAT,
        **made_by(command, cfg),
        "num_stories": num_stories,
        "arms": ARMS,
        "seeds": [cfg.seed + i for i in range(cfg.num_seeds)],
        "cells": [
            {
                **trial._asdict(),
                **sweep.numbers(trial.path(workdir)),
            }
            for trial in todo
        ],
    }
    files.write_json(workdir / "data_constrained.json", whole)
    (workdir / "data_constrained.md").write_text(markdown(whole), encoding="utf-8")
    figure(whole, workdir / "data_constrained.png")
    return whole


def trial_config(cfg: Config, trial: Trial, num_stories: int) -> Config:
    """The training configuration of a trial."""
    values = {"data.max_documents": num_stories // trial.share, **ARMS[trial.arm]}
    own = sweep.replace_fields(cfg, values)
    own = dataclasses.replace(own, seed=trial.seed, num_seeds=1)
    return own_configs(own)[trial.label]


def _finish(
    cfg: Config,
    workdir: Path,
    trial: Trial,
    num_stories: int,
    should_stop: Callable[[], bool],
) -> bool:
    """Trains one trial and stores its learning curve; False if it was stopped."""
    path = trial.path(workdir)
    own = trial_config(cfg, trial, num_stories)
    if not run.train(FAMILIES[trial.label], own, path, should_stop=should_stop):
        return False
    clock = files.read_json(path / "training.json")
    num_windows = len(dataset.load(own).train)
    numbers = {
        "num_train_windows": num_windows,
        "num_stories": own.data.max_documents,
        "epochs": clock["num_steps"] * own.train.batch_size / num_windows,
        "clock": clock,
        "curves": sweep.learning_curves(path),
    }
    files.write_json(path / sweep.DONE, numbers | {"config": own.to_dict()})
    return True
