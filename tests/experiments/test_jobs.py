"""Jobs: runs side by side, which share the cores, fail together and leave no orphan."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import terminal
import workers

from experiments.jobs import Job, at_once, run_jobs
from lm_jax import devices


def wait_for(condition, seconds=60.0):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process goes on; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_each_job_is_run_and_so_many_at_once(tmp_path):
    """Three jobs, two at once, with half of the cores each; one asks for its own."""
    paths = [tmp_path / str(i) for i in range(3)]
    todo = [Job(path.name, {"path": str(path), "seconds": 0.5}) for path in paths]
    todo[1] = todo[1]._replace(num_threads=3)
    assert run_jobs("fake_work.count", todo, at_once=2)
    found = [path.read_text().split() for path in paths]
    share = str(max(1, devices.num_threads() // 2))
    assert [words[2] for words in found] == [share, "3", share]
    assert len({words[3] for words in found} | {str(os.getpid())}) == 4
    spans = [(float(start), float(end)) for start, end, *_ in found]
    for start, _ in spans:
        assert sum(a <= start < b for a, b in spans) <= 2


def test_an_error_of_a_job_is_the_error_of_all(tmp_path):
    """The other one is told to stop, and it saves; the third does not start."""
    todo = [
        Job("ar", {"path": str(tmp_path / "ar")}),
        Job("seed_1/mdlm", {"message": "no number", "after": str(tmp_path / "ar.pid")}),
        Job("later", {"path": str(tmp_path / "later")}),
    ]
    with pytest.raises(ValueError) as found:
        run_jobs("fake_work.save_or_fail", todo, at_once=2)
    assert str(found.value) == "seed_1/mdlm: no number"
    assert (tmp_path / "ar").read_text() == "saved"
    assert not (tmp_path / "later").exists()


def test_an_unforeseen_error_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="x: KeyError") as found:
        run_jobs("fake_work.fail", [Job("x", {"message": "y", "kind": "KeyError"})], 1)
    assert "fake_work.py" in found.value.__notes__[0]


def test_a_killed_job_is_named():
    with pytest.raises(ChildProcessError, match="process of x ended with signal 9"):
        run_jobs("fake_work.die", [Job("x", {"status": int(signal.SIGKILL)})], 1)


def test_told_to_stop_every_job_saves(tmp_path):
    """What has not started does not start."""
    paths = [tmp_path / name for name in ("a", "b", "c")]
    todo = [Job(path.name, {"path": str(path)}) for path in paths]

    def should_stop():
        return all(path.with_suffix(".pid").exists() for path in paths[:2])

    assert not run_jobs("fake_work.save_when_told", todo, 2, should_stop)
    assert [path.exists() for path in paths] == [True, True, False]


def test_no_job_outlives_its_parent(tmp_path):
    """kill -9 of the parent: the jobs save and end."""
    paths = [tmp_path / name for name in ("a", "b")]
    code = (
        "import sys; from experiments.jobs import Job, run_jobs\n"
        "run_jobs('fake_work.save_when_told', "
        "[Job(p, {'path': p}) for p in sys.argv[1:]], 2)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, paths)], env=workers.environment(1)
    )
    pids = [path.with_suffix(".pid") for path in paths]
    wait_for(lambda: all(pid.exists() and pid.read_text() for pid in pids))
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(is_alive(int(pid.read_text())) for pid in pids))
    assert [path.read_text() for path in paths] == ["saved", "saved"]


def test_a_terminal_has_a_line_for_each_job():
    """It is drawn again and again, with the name of the job; notes stand above."""
    shown = terminal.shown_by(
        "from experiments.jobs import Job, run_jobs\n"
        "jobs = [Job(n, {'task': n[-2:]}) for n in ('ar', 'seed_1/lm')]\n"
        "assert run_jobs('fake_work.report', jobs, 2)"
    )
    for name in ("ar", "seed_1/lm"):
        assert len(re.findall(rf"\r{name}: \d+ of 30 steps", shown)) >= 2
        assert f"\r{name}: 30 of 30 steps: train 1.0 nats/token, and so on" in shown
        assert f"a note of {name[-2:]}\r\n" in shown
    lines = re.split(r"[\r\n]|\x1b\[A", shown)
    assert max(map(len, lines)) < terminal.COLUMNS and "\x1f" not in shown


def test_runs_side_by_side_need_a_cpu_for_themselves(monkeypatch):
    monkeypatch.setenv("NPROC", "4")
    assert [at_once(0, count) for count in (1, 2, 6)] == [1, 2, 4]
    assert [at_once(asked, 6) for asked in (1, 3, 8)] == [1, 3, 6]
    with pytest.raises(ValueError, match="--jobs=-1"):
        at_once(-1, 2)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert at_once(0, 2) == at_once(1, 2) == 1
    with pytest.raises(ValueError, match="--jobs=2 needs a CPU"):
        at_once(2, 2)
