"""The meter: what a run has done so far, read from the device as rarely as possible."""

import dataclasses
import logging
import time
import zlib

import jax
import numpy as np

from lm_jax.training.nonfinite import NonFiniteError, require_finite
from lm_jax.training.train_step import Metrics

_log = logging.getLogger(__name__)

MAX_STEPS_AHEAD = 8  # of the device, so that clocks and signals are heard in time


@dataclasses.dataclass
class TrainTotals:
    """Sums over the run so far. A checkpoint keeps them, so a resumed run counts on.

    Attributes:
      tokens: trained on, without PAD.
      timed_tokens: those of the steps that `seconds` counts.
      skipped_steps: left out, as their loss or gradient was not finite.
      seconds: of training. A process's first step counts as compiling.
      seconds_evaluating, seconds_saving, seconds_compiling: kept apart.
      line_nats, line_tokens, line_timed_tokens, line_seconds: since the last line.
    """

    tokens: int = 0
    timed_tokens: int = 0
    skipped_steps: int = 0
    seconds: float = 0.0
    seconds_evaluating: float = 0.0
    seconds_saving: float = 0.0
    seconds_compiling: float = 0.0
    line_nats: float = 0.0
    line_tokens: int = 0
    line_timed_tokens: int = 0
    line_seconds: float = 0.0


class PhaseTimer:
    """Books every second to one account of the totals."""

    def __init__(self, totals: TrainTotals):
        self._totals = totals
        self._last = time.perf_counter()

    def lap(self, account: str) -> None:
        """Books the time since the last lap to "seconds", "seconds_saving", ..."""
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        setattr(self._totals, account, getattr(self._totals, account) + elapsed)
        if account == "seconds":
            self._totals.line_seconds += elapsed

    def seconds_training(self) -> float:
        """Seconds of training so far, if the time since the last lap was training."""
        return self._totals.seconds + time.perf_counter() - self._last


class MetricAccumulator:
    """The metrics of steps. They stay on the device until somebody must know them.

    Args:
      totals, clock: of the run.
      max_skipped: how many steps without a finite loss and gradient the run may have.
    """

    def __init__(self, totals: TrainTotals, timer: PhaseTimer, max_skipped: int = 0):
        self._totals, self._clock = totals, timer
        self._max_skipped = max_skipped
        self._pending: list[tuple[int, int, Metrics]] = []
        self._is_compiled = False

    def add(self, step: int, x: np.ndarray, metrics: Metrics) -> None:
        """Takes the metrics of a step that trains on `x`, without waiting for them."""
        self._pending.append((step, zlib.crc32(x.tobytes()), metrics))
        if not self._is_compiled:
            self._read("seconds_compiling")
            self._is_compiled = True
        elif len(self._pending) > MAX_STEPS_AHEAD:
            jax.block_until_ready(self._pending[-1 - MAX_STEPS_AHEAD][2])

    def read(self) -> None:
        """Waits for the device and adds up.

        Raises:
          NonFiniteError: a loss or gradient is not finite; names step and batch.
        """
        self._read("seconds")

    def means(self) -> dict[str, float]:
        """Over the tokens since the last call."""
        self.read()
        totals = self._totals
        means = {"nats_per_token": totals.line_nats / max(totals.line_tokens, 1)}
        if totals.line_timed_tokens:
            means["tokens_per_second"] = totals.line_timed_tokens / totals.line_seconds
        totals.line_nats, totals.line_tokens = 0.0, 0
        totals.line_timed_tokens, totals.line_seconds = 0, 0.0
        return means

    def _read(self, account: str) -> None:
        pending, self._pending = self._pending, []
        read = jax.device_get([metrics for _, _, metrics in pending])
        self._clock.lap(account)
        for (step, crc32, _), metrics in zip(pending, read, strict=True):
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
            if account == "seconds":
                self._totals.timed_tokens += num_tokens
                self._totals.line_timed_tokens += num_tokens
