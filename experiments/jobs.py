"""Independent runs side by side: each is a process with its share of a CPU's cores.

On a CPU, two trainings with one core each take less time than the same two in turn with
all cores, as much of a small model's step cannot use a second core. The share decides
how sums are split, and with it the last bits of a number: results equal those of the
same runs in turn with the same share, `NPROC=<share> python -m mdlm_jax.train ...`.

A job reads its task from stdin, prints its progress to stderr and its result to stdout.
The end of stdin tells it that its parent has ended: it then saves and ends as well.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from absl import logging

from lm_jax import devices, progress, signals, usage
from lm_jax.config import require

TERMINAL_INTERVAL = 1.0  # seconds between lines of a job that are shown on a terminal
FLAG = "Trainings side by side on a CPU; 0 is as many as there are cores."  # of --jobs
MARK = "\x1f"  # before lines of progress; no other line begins with it


class Job(NamedTuple):
    """A call of a function in a process of its own.

    Attributes:
      name: name of the job, before its progress.
      arguments: keyword arguments of the function, as JSON values.
      num_threads: threads that it computes with; 0 for an equal share of the cores.
    """

    name: str
    arguments: dict[str, Any]
    num_threads: int = 0


def at_once(asked: int, count: int) -> int:
    """How many of `count` runs go on side by side: as many as asked for.

    By default one per core of a CPU, and one where JAX computes on another device.

    Raises:
      ValueError: several are asked for where they would share an accelerator.
    """
    require(asked >= 0, f"--jobs={asked} must be 0 or more: leave it out for automatic")
    is_alone = jax.default_backend() != "cpu" or jax.process_count() > 1
    require(
        asked <= 1 or not is_alone,
        f"--jobs={asked} needs a CPU and one process, as runs would share the devices: "
        "leave it out",
    )
    if is_alone:
        return 1
    return max(1, min(count, asked or devices.num_threads()))


def run_jobs(
    work: str,
    jobs: Sequence[Job],
    at_once: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Calls `work(**job.arguments)` for each job, `at_once` of them side by side.

    If a job fails, the others save and stop. If this process ends, all do.

    Args:
      work: full name of a function, which returns whether it has finished.
      jobs: the jobs, in the order in which they start.
      at_once: largest number of jobs at one time.
      should_stop: asked again and again; True makes all jobs save and stop.

    Returns:
      Whether all jobs have finished.

    Raises:
      ValueError: a job failed for a reason that the user can remove.
      ChildProcessError: a job was killed.
      RuntimeError: a job failed for another reason.
    """
    share = max(1, devices.num_threads() // at_once)
    display = _Display([job.name for job in jobs])
    waiting, running = deque(jobs), []
    num_finished, failure = 0, None
    is_stopping = False
    try:
        while running or (waiting and not is_stopping):
            while waiting and len(running) < at_once and not is_stopping:
                running.append(_Process(work, waiting.popleft(), share, display))
            for process in [p for p in running if p.has_ended()]:
                running.remove(process)
                try:
                    num_finished += process.result()
                except (ValueError, RuntimeError, ChildProcessError) as error:
                    failure = failure or error
            if not is_stopping and (failure or should_stop()):
                is_stopping = True
                for process in running:
                    process.stop()
            time.sleep(0.05)
    finally:
        for process in running:
            process.stop()
        for process in running:
            process.result()
        display.close()
    if failure:
        raise failure
    return num_finished == len(jobs)


class _Process:
    """A job that has been started."""

    def __init__(self, work: str, job: Job, share: int, display: "_Display"):
        self._name = job.name
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from experiments import jobs; jobs.main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # an interrupt at the terminal is for the parent
            env=os.environ
            | {
                "NPROC": str(job.num_threads or share),  # XLA's number of threads
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
        )
        task = {
            "work": work,
            "arguments": job.arguments,
            "interval": TERMINAL_INTERVAL if progress.is_terminal() else None,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._show, args=(display,), daemon=True)
        self._reader.start()

    def _show(self, display: "_Display") -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            display.show(self._name, line.rstrip("\n"))

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """Tells the process to save and end."""
        self._process.send_signal(signal.SIGTERM)

    def result(self) -> bool:
        """Waits for the end; whether the job has finished.

        Raises:
          ValueError, RuntimeError: it failed.
          ChildProcessError: it was killed.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        status = self._process.wait()
        self._reader.join()
        text = self._process.stdout.read()
        self._process.stdin.close()
        self._process.stdout.close()
        if not text:
            if status in (0, -signal.SIGTERM):
                return False
            how = f"status {status}" if status > 0 else f"signal {-status}"
            raise ChildProcessError(
                f"the process of {self._name} ended with {how} and no message: run "
                "the same command again to go on, with --jobs=1 if memory is short"
            )
        found = json.loads(text)
        if "error" not in found:
            return found["is_finished"]
        kind = ValueError if found["status"] == 2 else RuntimeError
        error = kind(f"{self._name}: {found['error']}")
        error.add_note(found["traceback"])
        raise error


class _Display:
    """The progress of all jobs: a line for each on a terminal, else their own lines."""

    def __init__(self, names: Sequence[str]):
        self._lock, self._lines = threading.Lock(), progress.Lines(names)

    def show(self, name: str, line: str) -> None:
        """Shows a line of a job; one of progress gets the name of the job."""
        with self._lock:
            if line.startswith(MARK):
                family = name.rpartition("/")[2].partition(" ")[0]
                text = line.removeprefix(MARK).removeprefix(f"{family}: ")
                self._lines.show(name, f"{name}: {text}")
            else:
                progress.note(line)

    def close(self) -> None:
        """Leaves the last lines where they are."""
        self._lines.close()


def _stop_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """A job: one call of a function."""
    task = json.loads(sys.stdin.readline())
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no result
    logging.set_verbosity(logging.WARNING)
    signals.leave_on_signal(announce=False)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    progress.INTERVAL = task["interval"] or progress.INTERVAL
    progress.LINE_MARK = MARK
    module, _, name = task["work"].rpartition(".")
    try:
        work = getattr(importlib.import_module(module), name)
        found = {"is_finished": bool(work(**task["arguments"]))}
    except Exception as error:
        text, status = usage.explain(error)
        text = text.removesuffix("; --traceback shows where")
        found = {"error": text, "status": status, "traceback": traceback.format_exc()}
    json.dump(found, answer)
    answer.flush()
