"""What is told of a run: lines in metrics.jsonl, TensorBoard and on the terminal."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

from lm_jax.progress import Progress
from lm_jax.training.meter import Clock, Meter, Totals, require_finite
from lm_jax.training.train_step import Metrics
from lm_jax.types import Params

SUMMARY = "training.json"


class MetricsWriter:
    """Appends to metrics.jsonl and to TensorBoard's events, a flushed line at a time.

    Args:
      workdir: of the run.
      step: where the run goes on. Later lines are dropped, as they will be written
        again, and so is a line that a killed run left half-written; -1 drops all.
    """

    def __init__(self, workdir: Path, step: int):
        path = workdir / "metrics.jsonl"
        kept = [line for line in _read_lines(path) if line["step"] <= step]
        _write(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(workdir), purge_step=step + 1)

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """One line: {"step", "split", ...}."""
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(f"{split}/{name}", value, step)
        self._events.flush()

    def close(self) -> None:
        """Every line is on the disk already; this only frees the files."""
        self._file.close()
        self._events.close()


class Recorder:
    """All of the above for one run: the loop's only witness.

    Args:
      name: of the family.
      workdir: of the run.
      totals: from the checkpoint; {} from scratch.
      step, num_steps: where the run goes on and where it ends.
      flops_per_step: of training.
    """

    def __init__(
        self,
        name: str,
        workdir: Path,
        totals: Mapping[str, Any],
        step: int,
        num_steps: int,
        flops_per_step: float,
    ):
        if jax.process_index():  # every process keeps a record of its own
            workdir = workdir / f"process_{jax.process_index()}"
        self._summary, self._num_steps = workdir / SUMMARY, num_steps
        self._summary.unlink(missing_ok=True)
        self._flops_per_step = flops_per_step
        self._totals = Totals(**totals)  # pyright: ignore[reportArgumentType]
        self._writer = MetricsWriter(workdir, step if totals else -1)
        self._progress = Progress(name, num_steps, "steps", step)
        self.clock = Clock(self._totals)
        self.meter = Meter(self._totals, self.clock)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.close()
        self._writer.close()

    def add(self, step: int, x: np.ndarray, metrics: Metrics) -> None:
        """Takes note of a step, without waiting for it."""
        self.meter.add(step, x, metrics)
        self._progress.advance()

    def log(self, step: int) -> None:
        """Writes what training has done since the last line."""
        self._write(step, "train", self.meter.means())

    def validate(
        self,
        step: int,
        evaluate: Callable[[Params], Mapping[str, Any]],
        params: Params,
    ) -> Mapping[str, Any]:
        """Evaluates, and writes the scores."""
        self.meter.read()
        scores = evaluate(params)
        self.clock.lap("seconds_evaluating")
        loss = float(scores["nats_per_token"])
        require_finite(loss, f"validation loss at step {step}")
        self._write(step, "validation", scores)
        return scores

    def totals(self) -> dict[str, Any]:
        """What a checkpoint keeps, once every step so far is known to be finite."""
        self.meter.read()
        return dataclasses.asdict(self._totals)

    def is_over(self, step: int, max_seconds: float) -> bool:
        """Whether steps or seconds have run out; max_seconds=0 is no limit."""
        is_late = 0 < max_seconds <= self.clock.seconds_training()
        return is_late or step >= self._num_steps

    def finish(self, step: int) -> None:
        """Writes training.json, which says that nothing is left to do."""
        totals = self._totals
        summary = {
            "num_steps": step,
            "planned_steps": self._num_steps,
            "num_tokens": totals.tokens,
            "tokens_per_second": totals.timed_tokens / max(totals.seconds, 1e-9),
            **_seconds(totals),
        }
        _write(self._summary, json.dumps(summary, indent=2) + "\n")

    def _write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        self._progress.say(_in_words(split, values))
        values = {name: float(value) for name, value in values.items()}
        progress = {
            "tokens": self._totals.tokens,
            "flops": step * self._flops_per_step,
            **_seconds(self._totals),
        }
        self._writer.write(step, split, values | progress)
        self.clock.lap("seconds_saving")


def read_summary(workdir: str | Path) -> dict[str, Any]:
    """What `Recorder.finish` wrote; {} while the run is not finished."""
    path = Path(workdir) / SUMMARY
    return json.loads(path.read_text()) if path.exists() else {}


def _in_words(split: str, values: Mapping[str, Any]) -> str:
    """Loss and speed, for the terminal."""
    text = f"{split} {values['nats_per_token']:.4f} nats/token"
    if "tokens_per_second" in values:
        text += f", {values['tokens_per_second']:,.0f} tokens/s"
    return text


def _seconds(totals: Totals) -> dict[str, Any]:
    fields = dataclasses.asdict(totals)
    return {name: fields[name] for name in fields if name.startswith("seconds")}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def _write(path: Path, text: str) -> None:
    """All or nothing, even if the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
