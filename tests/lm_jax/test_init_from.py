"""A run that begins with the backbone of another run."""

import json
import shutil

import jax
import numpy as np
import pytest
from tiny_configs import FAMILIES

from experiments import sweep
from lm_jax import run
from lm_jax.convert import model_card


def begin_of(family, cfg, workdir):
    """Trains a run to its end; its parameters before the first step."""
    kept = {}

    def keep(event):
        if event.step == 0:
            kept.update(jax.tree.map(np.asarray, event.state.params))

    assert run.train(FAMILIES[family], cfg, workdir, hooks=[keep])
    return kept


@pytest.mark.parametrize("family, other", [("mdlm", "ar"), ("ar", "mdlm")])
def test_the_first_backbone_is_that_of_the_other_run(finished, family, other, tmp_path):
    """In both directions; MDLM's time embedding starts at zero, as without it."""
    workdir, cfg, _ = finished
    cfg = sweep.replace_fields(
        cfg, {"train.init_from": str(workdir / other), "train.num_steps": 3}
    )
    params = begin_of(family, cfg, tmp_path / "run")
    source = run.load(workdir / other)
    jax.tree.map(
        np.testing.assert_array_equal, params["backbone"], source.params["backbone"]
    )
    assert ("time_embedding" in params) == (family == "mdlm")
    assert not any(
        np.any(leaf) for leaf in jax.tree.leaves(params.get("time_embedding"))
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())["source"]
    assert record["family"] == other and record["checkpoint"].startswith("12 ")
    card = model_card.render(run.load(tmp_path / "run"))
    assert f"the backbone of a run of the family {other}" in card
    assert "storyworld, windows by" in card


def test_a_run_that_goes_on_does_not_need_the_other(finished, tmp_path):
    """Stopped after two of four steps, the other run gone: the same parameters."""
    workdir, cfg, _ = finished
    shutil.copytree(workdir / "ar", tmp_path / "ar")
    cfg = sweep.replace_fields(
        cfg, {"train.init_from": str(tmp_path / "ar"), "train.num_steps": 4}
    )
    family, steps = FAMILIES["mdlm"], iter([False, True])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run.train(family, cfg, whole)
    assert not run.train(family, cfg, parts, should_stop=lambda: next(steps))
    shutil.rmtree(tmp_path / "ar")
    assert run.train(family, cfg, parts)
    jax.tree.map(
        np.testing.assert_array_equal, run.load(whole).params, run.load(parts).params
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"model.num_layers": 2},
            r"has num_layers=1, and this run has 2: pass --config.model.num_layers=1",
        ),
        ({"data.seed": 5}, "has another tokenizer, so that its embeddings mean other"),
        ({"train.init_from": "nowhere"}, "nowhere"),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused(finished, changes, message, tmp_path):
    """Before anything is written, and by the plan as well."""
    workdir, cfg, _ = finished
    start = {"train.init_from": str(workdir / "ar"), "train.num_steps": 3}
    cfg = sweep.replace_fields(cfg, start | changes)
    for work in (run.plan, run.train):
        with pytest.raises(ValueError, match=message):
            work(FAMILIES["mdlm"], cfg, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
