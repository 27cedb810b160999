"""A start from the other family: equal tokens, the right source, and paired seeds."""

import json

import pytest
from tiny_configs import toy

from experiments import warm_start
from experiments.sweep import replace_fields
from lm_jax import run


def test_every_warm_run_comes_after_its_source(cache_dir, tmp_path):
    """And has half of the steps, of its own family; its source has the other half."""
    cfg = replace_fields(toy(cache_dir), {"num_seeds": 2, "train.num_steps": 8})
    todo = warm_start.trainings(cfg, tmp_path)
    assert len(todo) == 2 * 2 * 3
    seen = set()
    for kind, label, own, path in todo:
        name = "ar" if label == "AR" else "mdlm"
        assert path.name == f"{name}_{kind}" and path.parent.name == f"seed_{own.seed}"
        assert own.train.num_steps == (8 if kind == "whole" else 4)
        if kind == "warm":
            other = "mdlm" if name == "ar" else "ar"
            assert own.train.init_from == str(path.parent / f"{other}_half") in seen
        else:
            assert own.train.init_from == ""
        seen.add(str(path))


def test_one_seed_is_refused(cache_dir, tmp_path):
    with pytest.raises(ValueError, match="one seed has no interval: pass --config.num"):
        warm_start.trainings(toy(cache_dir), tmp_path)


def test_differences_are_paired_by_seed():
    """1 nat less for each of three seeds, whose values lie far apart."""
    nats = {"AR": {"whole": [2.0, 4.0, 9.0], "warm": [1.0, 3.0, 8.0]}}
    found = warm_start.summary(nats)
    gap = found["families"]["AR"]["difference"]
    assert (gap["low"], gap["value"], gap["high"]) == (-1.0, -1.0, -1.0)
    (row,) = warm_start.table(found).rows
    assert row[0] == "AR" and row[3] == "-1.000 [-1.000, -1.000]"


@pytest.mark.slow
def test_the_whole_study_at_toy_size(cache_dir, tmp_path, monkeypatch):
    """Two seeds; a second call trains and scores nothing."""
    changes = {"train.num_steps": 6, "train.eval_every": 3, "num_seeds": 2}
    cfg = replace_fields(toy(cache_dir), changes)
    assert warm_start.warm_start(cfg, tmp_path, "test", 2)
    found = json.loads((tmp_path / "warm_start.json").read_text())
    assert set(found["families"]) == {"AR", "MDLM"}
    source = json.loads((tmp_path / "seed_0" / "mdlm_warm" / "run.json").read_text())
    assert source["source"]["family"] == "ar"
    monkeypatch.setattr(run, "evaluate", None)
    assert warm_start.warm_start(cfg, tmp_path, "test", 2)
    assert json.loads((tmp_path / "warm_start.json").read_text()) == found
