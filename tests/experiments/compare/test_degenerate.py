"""Families that collapse: their rows say so, and a comparison ends with a report."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_models import writer
from tiny_configs import toy

from experiments import families, sweep
from experiments.compare import comparison, frontier, held_out, plan
from experiments.compare.comparison import compare
from experiments.report.html import write_report
from lm_jax.evaluation import variety
from lm_jax.evaluation.diversity import diversity
from lm_jax.evaluation.fluency import Reference, fluency
from lm_jax.evaluation.openings import openings, openings_by_length
from lm_jax.types import EOS

COLLAPSED = {
    "empty": lambda key, at: jnp.full(at.shape, EOS),
    "one word": lambda key, at: jnp.where(at == 0, 300, EOS),
    "all equal": lambda key, at: jnp.where(at < 40, 300 + at, EOS),
}


def varied(key, positions):
    x = jax.random.randint(key, positions.shape, 300, 900)
    return jnp.where(positions < 100, x, EOS)


@pytest.mark.parametrize(
    "stories",
    [[""], ["a"], ["", ""], ["a", "a"], ["a b c d e"] * 3, ["", "a b c d e f"], ["猫"]],
)
def test_every_metric_of_degenerate_stories_is_a_number_or_nothing(stories):
    """No error, no warning, no infinity; an interval holds its value."""
    reference = ["Tom had a big red ball and he was happy.", "Mia saw a cat."]
    with np.errstate(all="raise"):
        tables = [
            diversity(stories, num_resamples=20),
            variety.variety(stories, num_resamples=20),
            openings(stories, reference),
            *openings_by_length(stories, reference, num_resamples=20).values(),
            fluency(stories, Reference.of(reference), lambda s: -1.0, num_resamples=20),
        ]
    for table in tables:
        for name, (value, low, high) in table.items():
            assert not np.isinf([value, low, high]).any(), name
            if not np.isnan([value, low]).any() and "distinct" not in name:
                assert low <= value + 1e-9 <= high + 2e-9, (name, value, low, high)


@pytest.mark.parametrize("kind", COLLAPSED)
def test_a_family_that_collapses_is_a_result(kind, cache_dir, tmp_path, monkeypatch):
    """AR writes nothing, one word, or one text: the report is written and has no
    number for what there is nothing to measure by."""
    monkeypatch.setattr(
        families,
        "FAMILIES",
        {"AR": writer(COLLAPSED[kind]), "MDLM": writer(varied, "mdlm")},
    )
    for module in (comparison, frontier, held_out, plan):
        monkeypatch.setattr(module, "FAMILIES", families.FAMILIES)
    changes = {"evaluate.samplers": (), "report.num_played": 1, "report.infill": ""}
    cfg = sweep.replace_fields(toy(cache_dir), changes)
    found = compare(cfg, tmp_path, command="test")
    assert found is not None
    write_report(found, tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert not {"nan", "inf", "None"} & set(report.split())
    part = found["families"]["ar"]
    assert part["openings"]["share_of_commonest_opening"]["value"] == 1.0
    assert part["diversity"]["unique_openings"]["value"] == 1 / 6
    if kind == "empty":
        assert part["variety"] == {} and part["fluency"]["known_word_share"] == {
            "value": None,
            "low": None,
            "high": None,
        }
        assert "One source has no words" in report
