"""What is told of a run: lines in metrics.jsonl, TensorBoard and on the terminal."""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from lm_jax import files
from lm_jax.distributed import is_process_zero
from lm_jax.progress import Progress
from lm_jax.training.metrics import MetricAccumulator, PhaseTimer, TrainTotals
from lm_jax.training.nonfinite import SpikeWatch, require_finite
from lm_jax.training.train_step import Metrics
from lm_jax.types import Params

_log = logging.getLogger(__name__)

SUMMARY, METRICS = "training.json", "metrics.jsonl"


class MetricsWriter:
    """Appends to metrics.jsonl and to TensorBoard's events, a flushed line at a time.

    Args:
      workdir: of the run.
      step: where the run goes on. Later lines are dropped, as they will be written
        again, and so is a line that a killed run left half-written; -1 drops all.
    """

    def __init__(self, workdir: Path, step: int):
        path = self._path = workdir / METRICS
        kept = [line for line in _read_lines(path) if line["step"] <= step]
        with files.whole_file(path) as part:
            lines = [json.dumps(line) + "\n" for line in kept]
            part.write_text("".join(lines), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(workdir), purge_step=step + 1)

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """One line: {"step", "split", ...}."""
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(f"{split}/{name}", value, step)
        self._events.flush()

    def require_there(self) -> None:
        """Raises FileNotFoundError where the file has vanished: an open file would take
        lines for ever, and nobody would ever read them."""
        self._path.stat()

    def close(self) -> None:
        """Every line is on the disk already; this only frees the files."""
        self._file.close()
        self._events.close()


class TrainLogger:
    """All of the above for one run: the loop's only witness. Process 0 alone writes.

    Args:
      name: of the family.
      workdir: of the run.
      totals: from the checkpoint; {} from scratch.
      step, num_steps: where the run goes on and where it ends.
      flops_per_step: of training.
      max_skipped: steps that may be left out.
    """

    def __init__(
        self,
        name: str,
        workdir: Path,
        totals: Mapping[str, Any],
        step: int,
        num_steps: int,
        flops_per_step: float,
        max_skipped: int = 0,
    ):
        self._summary, self._num_steps = workdir / SUMMARY, num_steps
        self._flops_per_step = flops_per_step
        self._totals = TrainTotals(**totals)  # pyright: ignore[reportArgumentType]
        self._spikes = SpikeWatch()
        self._writer, self._progress = None, None
        if is_process_zero():
            files.remove(self._summary)
            self._writer = MetricsWriter(workdir, step if totals else -1)
            self._progress = Progress(name, num_steps, "steps", step)
        self.timer = PhaseTimer(self._totals)
        self.meter = MetricAccumulator(self._totals, self.timer, max_skipped)

    def __enter__(self) -> "TrainLogger":
        return self

    def __exit__(self, *_: Any) -> None:
        for part in (self._progress, self._writer):
            if part:
                part.close()

    def add(self, step: int, x: np.ndarray, metrics: Metrics) -> None:
        """Takes note of a step, without waiting for it."""
        self.meter.add(step, x, metrics)
        if self._progress:
            self._progress.advance()

    def log(self, step: int) -> None:
        """Writes what training has done since the last line."""
        means = self.meter.means()
        self._write(step, "train", means)
        if self._spikes.sees(means["nats_per_token"]):
            _log.warning(
                "the training loss jumped to %.4f nats per token before step %d",
                means["nats_per_token"],
                step,
            )

    def validate(
        self,
        step: int,
        evaluate: Callable[[Params], Mapping[str, Any]],
        params: Params,
    ) -> Mapping[str, Any]:
        """Evaluates, and writes the scores."""
        self.meter.read()
        scores = evaluate(params)
        self.timer.lap("seconds_evaluating")
        loss = float(scores["nats_per_token"])
        require_finite(loss, f"validation loss at step {step}", step)
        self._write(step, "validation", scores)
        return scores

    def totals(self) -> dict[str, Any]:
        """What a checkpoint keeps, once every step so far is known to be finite.

        Raises:
          FileNotFoundError: the run's directory has vanished.
        """
        self.meter.read()
        if self._writer:
            self._writer.require_there()
        return dataclasses.asdict(self._totals)

    def is_late(self, max_seconds: float) -> bool:
        """Whether seconds of training have run out; max_seconds=0 is no limit."""
        return 0 < max_seconds <= self.timer.seconds_training()

    def finish(self, step: int) -> None:
        """Writes training.json, which says that nothing is left to do."""
        totals = self._totals
        summary = {
            "num_steps": step,
            "planned_steps": self._num_steps,
            "num_tokens": totals.tokens,
            "skipped_steps": totals.skipped_steps,
            "tokens_per_second": totals.timed_tokens / max(totals.seconds, 1e-9),
            **_seconds(totals),
        }
        if is_process_zero():
            files.write_json(self._summary, summary)

    def _write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        if not (self._progress and self._writer):
            return
        self._progress.say(_in_words(split, values))
        values = {name: float(value) for name, value in values.items()}
        progress = {
            "tokens": self._totals.tokens,
            "flops": step * self._flops_per_step,
            **_seconds(self._totals),
        }
        self._writer.write(step, split, values | progress)
        self.timer.lap("seconds_saving")


def read_summary(workdir: str | Path) -> dict[str, Any]:
    """What `TrainLogger.finish` wrote; {} while the run is not finished."""
    path = Path(workdir) / SUMMARY
    return files.read_json(path) if files.exists(path) else {}


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """The lines of a finished run's metrics.jsonl.

    Raises:
      CorruptFileError: a line is no JSON, or the last ones are missing.
    """
    path = Path(workdir) / METRICS
    lines, last = _read_lines(path), read_summary(workdir).get("num_steps")
    num_lines = len(path.read_bytes().splitlines()) if files.exists(path) else 0
    is_whole = any(
        line["step"] == last for line in lines if line["split"] == "validation"
    )
    if len(lines) < num_lines or not is_whole:
        raise files.CorruptFileError(
            f"{path} is damaged: lines are missing or no JSON; take it from a copy, or "
            "name another --workdir"
        )
    return lines


def _in_words(split: str, values: Mapping[str, Any]) -> str:
    """Loss and speed, for the terminal."""
    text = f"{split} {values['nats_per_token']:.4f} nats/token"
    if "tokens_per_second" in values:
        text += f", {values['tokens_per_second']:,.0f} tokens/s"
    return text


def _seconds(totals: TrainTotals) -> dict[str, Any]:
    fields = dataclasses.asdict(totals)
    return {name: fields[name] for name in fields if name.startswith("seconds")}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole."""
    if not files.exists(path):
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
