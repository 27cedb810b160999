"""Sweeps: every trial of a study is run once, by whichever process is free."""

import os

import fake_work

from experiments import sweep
from lm_jax.config import Config, TrainConfig


def test_trials_are_shared_by_processes_and_run_once(tmp_path, capsys, monkeypatch):
    """Six trials in two processes; a second call runs none and prints the report."""
    monkeypatch.setattr(sweep.dataset, "load", lambda cfg: None)
    cfg = Config(train=TrainConfig(num_steps=7))
    for _ in range(2):
        sweep.run_sweep(
            fake_work.study,
            cfg,
            tmp_path / "report.md",
            at_once=2,
            workdir=str(tmp_path),
        )
        assert capsys.readouterr().out == "six trials\n"
    found = [sweep.numbers(tmp_path / str(i)) for i in range(6)]
    assert {numbers["steps"] for numbers in found} == {7}
    pids = {numbers["pid"] for numbers in found}
    assert len(pids) == 2 and os.getpid() not in pids
