"""Cells: the runs of a study, each finished once, by any number of processes.

Start the same command twice, and the two share the work.
"""

import contextlib
import dataclasses
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_jax import files, signals
from lm_jax.config import Config
from lm_jax.training.allocator import keep_freed_memory

DONE = "cell.json"  # stands in the directory of a finished cell, and holds its numbers


def changed(cfg: Config, values: Mapping[str, Any]) -> Config:
    """`cfg` with some fields replaced: {"model.tied_head": False}.

    Raises:
      TypeError: there is no such field.
    """
    for path, value in values.items():
        section, _, field = path.rpartition(".")
        if section:
            part = dataclasses.replace(getattr(cfg, section), **{field: value})
            field, value = section, part
        cfg = dataclasses.replace(cfg, **{field: value})
    return cfg


def finish(paths: Sequence[Path], work: Callable[[int], bool]) -> bool:
    """Does the work of each cell in turn, but for those that others are at or did.

    Args:
      paths: the directory of each cell.
      work: the cell's number -> whether it is finished; False ends this early.

    Returns:
      Whether every cell is finished. False where others are still at work.
    """
    for number, path in enumerate(paths):
        with _claimed(path) as is_mine:
            if is_mine and not files.exists(path / DONE) and not work(number):
                return False
    return all(files.exists(path / DONE) for path in paths)


def go_on(
    cfg: Config, report: Path, study: Callable[[Callable[[], bool]], Any]
) -> None:
    """The main of a study: does what is left of it, and prints its report.

    Args:
      cfg: of the study.
      report: the file that the study writes at its end.
      study: should_stop -> something true once every cell is finished.
    """
    keep_freed_memory(cfg)
    with signals.finish_step() as should_stop:
        is_finished = study(should_stop)
    print(
        report.read_text(encoding="utf-8")
        if is_finished
        else "not finished: run again to go on"
    )


def learning_curves(path: Path) -> dict[str, list[list[float]]]:
    """[step, nats per token, standard error] of a run, by split."""
    with (path / "metrics.jsonl").open() as file:
        lines = [json.loads(line) for line in file]
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
