"""Work for jobs: functions that count, fail, or wait until they are told to stop."""

import os
import sys
import time
from pathlib import Path

from experiments import sweep
from lm_jax import files, signals
from lm_jax.progress import Progress, note


def count(path: str, seconds: float = 0.0) -> bool:
    """Writes its time and its number of threads."""
    start = time.time()
    time.sleep(seconds)
    words = [start, time.time(), os.environ["NPROC"], os.getpid()]
    Path(path).write_text(" ".join(map(str, words)))
    return True


def fail(message: str, kind: str = "ValueError") -> bool:
    raise {"ValueError": ValueError, "KeyError": KeyError}[kind](message)


def save_when_told(path: str) -> bool:
    """Runs until it is stopped; then saves."""
    with signals.finish_step(announce=False) as should_stop:
        Path(path).with_suffix(".pid").write_text(str(os.getpid()))
        print(f"{Path(path).stem}: started", file=sys.stderr, flush=True)
        while not should_stop():
            time.sleep(0.01)
    Path(path).write_text("saved")
    return False


def die(status: int) -> bool:
    os.kill(os.getpid(), status)
    return True


def save_or_fail(path: str = "", message: str = "", after: str = "") -> bool:
    """Fails with the message, if there is one, once a file exists."""
    while after and not Path(after).exists():
        time.sleep(0.01)
    return fail(message) if message else save_when_told(path)


def study(cfg, workdir: str, should_stop) -> bool | None:
    """Six trials, each of which stores the process that ran it."""
    paths = [Path(workdir) / str(i) for i in range(6)]

    def work(number: int) -> bool:
        time.sleep(0.3)
        values = {"pid": os.getpid(), "steps": cfg.train.num_steps}
        files.write_json(paths[number] / sweep.DONE, values)
        return not should_stop()

    if not sweep.finish(paths, work):
        return None
    (Path(workdir) / "report.md").write_text("six trials")
    return True


def report(task: str) -> bool:
    """Thirty steps with their progress, and a note among them."""
    with Progress(task, 30, "steps") as progress:
        for step in range(30):
            time.sleep(0.1)
            progress.advance()
            if step == 10:
                note(f"a note of {task}")
        progress.say("train 1.0 nats/token" + ", and so on" * 20)
    return True
