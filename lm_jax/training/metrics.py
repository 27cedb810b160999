"""Writes training metrics to metrics.jsonl, TensorBoard and the terminal."""

import dataclasses
import json
import logging
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

from lm_jax import files
from lm_jax.distributed import is_process_zero
from lm_jax.progress import Progress
from lm_jax.training.nonfinite import NonFiniteError, require_finite
from lm_jax.training.train_step import Metrics

_log = logging.getLogger(__name__)

SUMMARY, METRICS = "training.json", "metrics.jsonl"
# How far the host may run ahead of the device. A small number, so that time limits and
# signals take effect soon.
MAX_STEPS_AHEAD = 8


@dataclasses.dataclass
class TrainTotals:
    """Sums over the run so far; checkpoints save them, and resumed runs add to them.

    Attributes:
      tokens: number of tokens trained on, without PAD.
      timed_tokens: number of tokens of the steps that `seconds` includes.
      skipped_steps: number of steps skipped for a non-finite loss or gradient.
      seconds: seconds of training; the first step of a process counts as compilation.
      seconds_evaluating, seconds_sampling, seconds_saving, seconds_compiling: seconds
        of the other phases.
      line_nats, line_tokens, line_timed_tokens, line_seconds, line_grad_norm,
        line_steps: sums since the last line of metrics.
    """

    tokens: int = 0
    timed_tokens: int = 0
    skipped_steps: int = 0
    seconds: float = 0.0
    seconds_evaluating: float = 0.0
    seconds_sampling: float = 0.0
    seconds_saving: float = 0.0
    seconds_compiling: float = 0.0
    line_nats: float = 0.0
    line_tokens: int = 0
    line_timed_tokens: int = 0
    line_seconds: float = 0.0
    line_grad_norm: float = 0.0
    line_steps: int = 0


class PhaseTimer:
    """Timer that splits wall-clock time into the phases of the totals."""

    def __init__(self, totals: TrainTotals):
        self._totals = totals
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Adds the time since the last lap to a field: "seconds", "seconds_saving"."""
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        setattr(self._totals, phase, getattr(self._totals, phase) + elapsed)
        if phase == "seconds":
            self._totals.line_seconds += elapsed

    def seconds_training(self) -> float:
        """Seconds of training so far, with the time since the last lap."""
        return self._totals.seconds + time.perf_counter() - self._last


class MetricAccumulator:
    """Adds up the metrics of steps, which stay on the device until they are read.

    Args:
      totals, timer: sums and timer of the run.
      max_skipped: number of steps with a non-finite loss or gradient that are allowed.
    """

    def __init__(self, totals: TrainTotals, timer: PhaseTimer, max_skipped: int = 0):
        self._totals, self._timer = totals, timer
        self._max_skipped = max_skipped
        self._pending: list[tuple[int, int, Metrics]] = []
        self._is_compiled = False

    def add(self, step: int, x: np.ndarray, metrics: Metrics) -> None:
        """Adds the metrics of a step that trains on `x`, without waiting for them."""
        self._pending.append((step, zlib.crc32(x.tobytes()), metrics))
        if not self._is_compiled:
            self._read("seconds_compiling")
            self._is_compiled = True
        elif len(self._pending) > MAX_STEPS_AHEAD:
            jax.block_until_ready(self._pending[-1 - MAX_STEPS_AHEAD][2])

    def read(self) -> None:
        """Waits for the device and adds up all pending metrics.

        Raises:
          NonFiniteError: a loss or gradient is not finite; the message names step and
            batch.
        """
        self._read("seconds")

    def means(self) -> dict[str, float]:
        """Means since the last call: loss per token, gradient norm per step."""
        self.read()
        totals = self._totals
        means = {
            "nats_per_token": totals.line_nats / max(totals.line_tokens, 1),
            "grad_norm": totals.line_grad_norm / max(totals.line_steps, 1),
        }
        if totals.line_timed_tokens:
            means["tokens_per_second"] = totals.line_timed_tokens / totals.line_seconds
        totals.line_nats, totals.line_tokens = 0.0, 0
        totals.line_timed_tokens, totals.line_seconds = 0, 0.0
        totals.line_grad_norm, totals.line_steps = 0.0, 0
        return means

    def _read(self, phase: str) -> None:
        pending, self._pending = self._pending, []
        on_host = jax.device_get([metrics for _, _, metrics in pending])
        self._timer.lap(phase)
        for (step, crc32, _), metrics in zip(pending, on_host, strict=True):
            try:
                for name in ("loss", "grad_norm"):
                    require_finite(
                        float(metrics[name]),
                        f"{name} at step {step}, on batch {step - 1} of the data order "
                        f"(crc32 {crc32:08x})",
                        step,
                    )
            except NonFiniteError as error:
                if self._totals.skipped_steps >= self._max_skipped:
                    raise
                self._totals.skipped_steps += 1
                _log.warning("left out: %s", error.what)
                continue
            num_tokens = int(metrics["num_tokens"])
            self._totals.tokens += num_tokens
            self._totals.line_nats += float(metrics["loss"]) * num_tokens
            self._totals.line_tokens += num_tokens
            self._totals.line_grad_norm += float(metrics["grad_norm"])
            self._totals.line_steps += 1
            if phase == "seconds":
                self._totals.timed_tokens += num_tokens
                self._totals.line_timed_tokens += num_tokens


class MetricsWriter:
    """Writes lines to metrics.jsonl and TensorBoard's events, and flushes each.

    Args:
      workdir: directory of the run.
      step: step from which training continues. Later lines are dropped, as they will
        be written again; so is the incomplete line of a killed run. -1 drops all.
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
        """Writes one line: {"step", "split", ...}, and numbers and texts as events."""
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, list):
                self._events.add_text(f"{split}/{name}", "\n\n".join(value), step)
            else:
                self._events.add_scalar(f"{split}/{name}", value, step)
        self._events.flush()

    def require_there(self) -> None:
        """Raises FileNotFoundError if the file was deleted: writes to the open file
        would still succeed, and be lost."""
        self._path.stat()

    def close(self) -> None:
        """Closes the files; every line has been flushed before."""
        self._file.close()
        self._events.close()


class TrainLogger:
    """Accumulates, times and writes the metrics of one run; only process 0 writes.

    Args:
      workdir: directory of the run.
      totals: sums from the checkpoint; {} from scratch.
      step, num_steps: step from which training continues, and the last step.
      flops_per_step: FLOPs of a training step.
      max_skipped: number of steps that may be skipped.
      task: label of the progress bar.
    """

    def __init__(
        self,
        workdir: Path,
        totals: Mapping[str, Any],
        step: int,
        num_steps: int,
        flops_per_step: float,
        max_skipped: int = 0,
        task: str = "training",
    ):
        self._summary, self._num_steps = workdir / SUMMARY, num_steps
        self._flops_per_step = flops_per_step
        self._totals = TrainTotals(**totals)  # pyright: ignore[reportArgumentType]
        self._writer, self._progress = None, None
        if is_process_zero():
            files.remove(self._summary)
            self._writer = MetricsWriter(workdir, step if totals else -1)
            self._progress = Progress(task, num_steps, "steps", step)
        self.timer = PhaseTimer(self._totals)
        self.metrics = MetricAccumulator(self._totals, self.timer, max_skipped)

    def __enter__(self) -> "TrainLogger":
        return self

    def __exit__(self, *_: Any) -> None:
        for part in (self._progress, self._writer):
            if part:
                part.close()

    def add(self, step: int, x: np.ndarray, metrics: Metrics) -> None:
        """Adds the metrics of a step, without waiting for them."""
        self.metrics.add(step, x, metrics)
        if self._progress:
            self._progress.advance()

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """Writes a line of numbers or texts, with tokens, FLOPs and seconds."""
        if not (self._progress and self._writer):
            return
        if text := _describe(split, values):
            self._progress.say(text)
        progress = {
            "tokens": self._totals.tokens,
            "flops": step * self._flops_per_step,
            **_seconds(self._totals),
        }
        self._writer.write(step, split, {**values, **progress})
        self.timer.lap("seconds_saving")

    def totals(self) -> dict[str, Any]:
        """Sums for a checkpoint, after a check that all steps so far are finite.

        Raises:
          FileNotFoundError: metrics.jsonl was deleted.
        """
        self.metrics.read()
        if self._writer:
            self._writer.require_there()
        return dataclasses.asdict(self._totals)

    def is_late(self, max_seconds: float) -> bool:
        """Whether training took max_seconds or more; max_seconds=0 is no limit."""
        return 0 < max_seconds <= self.timer.seconds_training()

    def finish(self, step: int) -> None:
        """Writes training.json, which marks the run as finished."""
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


def read_summary(workdir: str | Path) -> dict[str, Any]:
    """Content of training.json; {} before the run is finished."""
    path = Path(workdir) / SUMMARY
    return files.read_json(path) if files.exists(path) else {}


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """The lines of a finished run's metrics.jsonl.

    Raises:
      CorruptFileError: a line is not JSON, or the last validation is missing.
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


def _describe(split: str, values: Mapping[str, Any]) -> str:
    """Loss and speed for the terminal; "" without a loss."""
    if "nats_per_token" not in values:
        return ""
    text = f"{values['nats_per_token']:.4f}"
    if error := values.get("standard_error"):  # only a bound has one
        text = f"≤ {text} ± {error:.4f}"
    text = f"{split} {text} nats/token"
    if "tokens_per_second" in values:
        text += f", {values['tokens_per_second']:,.0f} tokens/s"
    return text


def _seconds(totals: TrainTotals) -> dict[str, Any]:
    fields = dataclasses.asdict(totals)
    return {name: fields[name] for name in fields if name.startswith("seconds")}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that are complete JSON."""
    if not files.exists(path):
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
