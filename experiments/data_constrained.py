"""The same tokens seen again and again: does MDLM overtake AR where text is scarce?

python -m experiments.data_constrained --workdir=runs/data_constrained
python -m experiments.data_constrained --workdir=runs/data_constrained_tinystories \\
    --config.data.corpus=tinystories --config.model.length=208 \\
    --config.model.vocab_size=2048 --config.train.num_steps=2200 --stories=12961 \\
    --config.data.train_files=train.txt --config.data.valid_files=valid.txt

Every run trains on the same number of tokens; the corpus is a first part of the
stories: all, a quarter, a sixteenth, a sixty-fourth. So it is seen about 1, 4, 16 and
64 times, if the config's tokens are one pass over all of it; the results have the exact
numbers. Each family is trained plainly and, where text repeats most, also with dropout
and with more weight decay. All are scored on the same held-out windows, of stories that
no run reads. A second call repeats nothing; two at once share the work. It leaves
data_constrained.json, .md, .png.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from experiments import cells
from experiments.data_constrained_report import figure, markdown
from experiments.families import FAMILIES, own_configs
from experiments.provenance import command_of, made_by
from lm_jax import app, command_line, files
from lm_jax.config import Config
from lm_jax.data import dataset

FORMAT = 1  # of data_constrained.json
DEFAULT_CONFIG = Path(__file__).parent / "configs" / "data_constrained.py"
# The corpus is all of the stories over one of these; ARMS is how a run is regularised.
SHARES = {"plain": (1, 4, 16, 64), "dropout": (16, 64), "decay": (16, 64)}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"model.dropout": 0.1},
    "decay": {"optimizer.weight_decay": 0.3},
}


class Cell(NamedTuple):
    """One training: 1 / its share of the stories, how it is regularised, by whom."""

    share: int
    arm: str
    label: str
    seed: int

    def path(self, workdir: Path) -> Path:
        """Where its run lies."""
        name = f"{self.arm}_{self.share}"
        return workdir / name / f"seed_{self.seed}" / self.label.lower()


def data_constrained(
    cfg: Config,
    workdir: Path,
    num_stories: int,
    command: str = "",
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Every number of the study, as data_constrained.json holds them.

    Args:
      cfg: of all runs.
      workdir: a directory for each run, and the results.
      num_stories: of the largest corpus.
      command: that asked for it.
      should_stop: asked after each training step.

    Returns:
      The numbers, or None where it stopped early or other processes are still at work.
    """
    todo = [
        Cell(share, arm, label, cfg.seed + i)
        for i in range(cfg.num_seeds)
        for arm in ARMS
        for share in SHARES[arm]
        for label in FAMILIES
    ]

    def work(number: int) -> bool:
        return _finish(cfg, workdir, todo[number], num_stories, should_stop)

    configs = [cell_config(cfg, cell, num_stories) for cell in todo]
    if not cells.finish([cell.path(workdir) for cell in todo], work, configs):
        return None
    whole = {
        "format": FORMAT,
        **made_by(command, cfg),
        "num_stories": num_stories,
        "arms": ARMS,
        "seeds": [cfg.seed + i for i in range(cfg.num_seeds)],
        "cells": [
            {
                **cell._asdict(),
                **cells.numbers(cell.path(workdir)),
            }
            for cell in todo
        ],
    }
    files.write_json(workdir / "data_constrained.json", whole)
    (workdir / "data_constrained.md").write_text(markdown(whole), encoding="utf-8")
    figure(whole, workdir / "data_constrained.png")
    return whole


def cell_config(cfg: Config, cell: Cell, num_stories: int) -> Config:
    """What the cell is trained with."""
    values = {"data.max_stories": num_stories // cell.share, **ARMS[cell.arm]}
    own = cells.changed(cfg, values)
    own = dataclasses.replace(own, seed=cell.seed, num_seeds=1)
    return own_configs(own)[cell.label]


def _finish(
    cfg: Config,
    workdir: Path,
    cell: Cell,
    num_stories: int,
    should_stop: Callable[[], bool],
) -> bool:
    """Trains one cell and keeps its learning curve; False where it was told to stop."""
    path = cell.path(workdir)
    own = cell_config(cfg, cell, num_stories)
    if not app.train(FAMILIES[cell.label], own, path, should_stop):
        return False
    clock = files.read_json(path / "training.json")
    num_windows = len(dataset.load(own).train)
    numbers = {
        "num_train_windows": num_windows,
        "num_stories": own.data.max_stories,
        "epochs": clock["num_steps"] * own.train.batch_size / num_windows,
        "clock": clock,
        "curves": cells.learning_curves(path),
    }
    files.write_json(path / cells.DONE, numbers | {"config": own.to_dict()})
    return True


def main() -> None:
    cfg, workdir = command_line.read_config(), command_line.path("workdir")
    num_stories = flags.FLAGS.stories or cfg.data.num_stories
    command = command_of("data_constrained")
    rest = partial(data_constrained, cfg, workdir, num_stories, command)
    cells.go_on(cfg, workdir / "data_constrained.md", rest)


if __name__ == "__main__":
    command_line.define_config(DEFAULT_CONFIG)
    flags.DEFINE_string("workdir", "runs/data_constrained", "Directory of the study.")
    flags.DEFINE_integer(
        "stories",
        0,
        "Stories of the largest corpus; default: --config.data.num_stories.",
        lower_bound=0,
    )
    command_line.run(main)
