"""The ablation and the study of repeated data: conclusions follow from numbers."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from made_up_results import repeated
from tiny_configs import toy

from experiments import sweep
from experiments.ablation import ablation, report
from experiments.repeated_data import repeated_data
from experiments.repeated_data.report import figure, score
from experiments.repeated_data.report import markdown as repeated_markdown
from lm_jax.config import Config
from lm_jax.evaluation.intervals import t_interval


def trial_numbers(shift: float, seed: int) -> dict:
    noise = 0.002 * seed

    def row(value):
        return {"value": value + noise, "low": value - 0.1, "high": value + 0.1}

    metrics = [*report.COLUMNS, "self_bleu", "distinct_4", "words_per_document"]
    return {
        "nats_per_token": 2.0 + shift,
        "bits_per_byte": 1.0 + shift,
        "curve": [[0, 7.0, 0.0], [5, 2.0, 0.0], [10, 2.5, 0.0]],
        "clock": {"tokens_per_second": 100.0 + seed},
        "writings": {
            name: {"seconds": 1.0, **{metric: row(0.3 + shift) for metric in metrics}}
            for name in ablation.WRITINGS
        },
    }


@pytest.fixture
def found():
    """A study in which the prompt alone moves AR's openings, by 0.4."""
    whole = {
        "command": "test",
        "commit": "0",
        "config": Config().to_dict(),
        "machine": {"cpu": "none", "devices": ["cpu"]},
        "versions": {"jax": "0"},
        "corpus": {"name": "storyworld"},
        "seeds": [0, 1, 2],
        "trainings": ablation.TRAININGS,
        "rows": ablation.ROWS,
        "human": {"document": trial_numbers(0.0, 0)["writings"]["plain"]},
        "cells": [
            {"training": training, "label": label, "seed": seed}
            | trial_numbers(0.0, seed)
            for training, families in ablation.TRAININGS.items()
            for label in families
            for seed in range(3)
        ],
    }
    for cell in whole["cells"]:
        if (cell["training"], cell["label"]) == ("controlled", "AR"):
            for metric in report.COLUMNS:
                cell["writings"]["prompt"][metric]["value"] += 0.4 + 0.01 * cell["seed"]
    return json.loads(json.dumps(whole))


def test_an_effect_is_paired_by_seed(found):
    """What a seed does to both rows cancels."""
    effect = report.effect(found, "AR", "prompt", report.COLLAPSE)
    assert effect == pytest.approx(t_interval(np.array([0.40, 0.41, 0.42])))
    nothing = report.effect(found, "MDLM", "windows", report.COLLAPSE)
    assert nothing == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


def test_the_conclusions_name_the_factor_that_has_an_effect(found):
    """One cause for AR; none for MDLM."""
    lines = report.verdict(found).splitlines()
    raised = [line for line in lines if "most frequent first word: raised by" in line]
    assert FACTOR_OF_PROMPT in raised[0] and raised[0].count("**") == 2
    assert raised[1].endswith("no factor.")


FACTOR_OF_PROMPT = report.FACTORS["prompt"]


def test_every_row_of_the_study_is_in_its_tables(found):
    """And every trial that a row needs is trained."""
    text = report.markdown(found)
    for row, families in ablation.ROWS.items():
        assert text.count(f"\n| {row} |") == len(families)
        for label, (training, writing) in families.items():
            assert label in ablation.TRAININGS[training]
            assert writing in ablation._writings(ablation.Trial(training, label, 0))
    assert set(report.FACTORS) <= set(ablation.ROWS)


@pytest.mark.slow
def test_a_study_is_run_once(tmp_path, monkeypatch):
    """Every trial is trained and sampled; a second call repeats nothing."""
    cfg = sweep.replace_fields(
        toy(tmp_path / "cache"), {"train.num_steps": 4, "sample.num_samples": 4}
    )
    found = ablation.study(cfg, tmp_path, command="test")
    assert found is not None and len(found["cells"]) == 8
    assert json.loads((tmp_path / "study.json").read_text()) == json.loads(
        json.dumps(found)
    )
    prompted = tmp_path / "controlled/seed_0/mdlm/comparison/writings/prompt.jsonl"
    assert all(json.loads(line)["text"].startswith("Once") for line in prompted.open())
    before = (tmp_path / "study.md").read_text()
    monkeypatch.setattr(ablation, "_finish", None)  # to call it would be a TypeError
    ablation.study(cfg, tmp_path, command="test")
    assert (tmp_path / "study.md").read_text() == before


def test_repeated_data_are_told_from_fresh_ones(tmp_path):
    """AR overfits at 16 epochs and MDLM crosses it there, at the last step alone."""
    found = repeated(
        {
            ("AR", 1): [3.0, 2.0, 1.5],
            ("AR", 16): [3.0, 2.0, 2.9],
            ("MDLM", 1): [3.0, 2.5, 2.4],
            ("MDLM", 16): [3.0, 2.6, 2.5],
        }
    )
    assert score(found["cells"][1], None) == 2.0 and score(found["cells"][1], -1) == 2.9
    text = repeated_markdown(found)
    assert (
        "AR's last loss is more than 0.01 nats above its best loss at 16.0 epochs."
        in text
    )
    assert "last step: MDLM's bound is below AR's loss at 16.0 (" in text
    best = "best step: MDLM's bound is below AR's loss at no number of epochs."
    assert best in text
    figure(found, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_trials_of_repeated_data_differ_in_what_they_name():
    """Fewer documents, more dropout or more decay, and nothing else."""
    cfg = Config()
    trial = repeated_data.Trial(16, "dropout", "AR", 3)
    own = repeated_data.trial_config(cfg, trial, 3200)
    assert (own.data.max_documents, own.model.dropout, own.seed) == (200, 0.1, 3)
    assert own.optimizer == cfg.optimizer and own.train == cfg.train


def _work(root: str, results) -> None:
    paths = [Path(root) / str(i) for i in range(6)]

    def work(number: int) -> bool:
        results.put(number)
        (paths[number] / sweep.DONE).write_text("{}")
        return True

    sweep.finish(paths, work)


def test_two_processes_share_the_trials(tmp_path):
    """Each trial runs once, in either process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(target=_work, args=(str(tmp_path), results)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    done = sorted(results.get(timeout=120) for _ in range(6))
    for worker in workers:
        worker.join(timeout=120)
    assert done == list(range(6)) and results.empty()


def test_a_stopped_trial_ends_the_sweep(tmp_path):
    """Finished trials are kept, and the rest needs another call."""
    paths = [tmp_path / str(i) for i in range(3)]
    asked = []

    def work(number: int) -> bool:
        asked.append(number)
        if number == 1:
            return False
        (paths[number] / sweep.DONE).write_text("{}")
        return True

    assert not sweep.finish(paths, work)
    assert asked == [0, 1]
