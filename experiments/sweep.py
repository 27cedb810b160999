"""Cells: the runs of a study, each finished once, by any number of processes.

Start the same command twice, and the two share the work.
"""

import contextlib
import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_jax import files, signals
from lm_jax.config import Config
from lm_jax.training import hooks
from lm_jax.training.malloc import disable_malloc_trim

DONE = "cell.json"  # stands in the directory of a finished cell, and holds its numbers


def replace_fields(cfg: Config, values: Mapping[str, Any]) -> Config:
    """`cfg` with some fields replaced: {"model.tied_head": False}.

    Raises:
      ValueError: there is no such field, or the values do not fit together.
    """
    tree = cfg.to_dict()
    for path, value in values.items():
        section, _, field = path.rpartition(".")
        (tree[section] if section else tree)[field] = value
    return Config.from_dict(tree)


def finish(
    paths: Sequence[Path],
    work: Callable[[int], bool],
    configs: Sequence[Config] | None = None,
) -> bool:
    """Does the work of each cell in turn, but for those that others are at or did.

    Args:
      paths: the directory of each cell.
      work: the cell's number -> whether it is finished; False ends this early.
      configs: the config of each cell; one that was finished with another is worked
        at again. Default: a finished cell is finished.

    Returns:
      Whether every cell is finished. False where others are still at work.
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
    """What the finished cell in this directory has found."""
    found = files.read_json(path / DONE)
    return {name: value for name, value in found.items() if name != "config"}


def run_sweep(
    cfg: Config, report: Path, study: Callable[[Callable[[], bool]], Any]
) -> None:
    """The main of a study: does what is left of it, and prints its report.

    Args:
      cfg: of the study.
      report: the file that the study writes at its end.
      study: should_stop -> something true once every cell is finished.
    """
    disable_malloc_trim(cfg)
    with signals.finish_step() as should_stop:
        is_finished = study(should_stop)
    print(
        report.read_text(encoding="utf-8")
        if is_finished
        else "not finished: run again to go on"
    )


def learning_curves(path: Path) -> dict[str, list[list[float]]]:
    """[step, nats per token, standard error] of a run, by split."""
    lines = hooks.read_metrics(path)
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
    """Whether no other process has this cell; it is this one's until the end."""
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as file:  # a killed process leaves it open to all
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
