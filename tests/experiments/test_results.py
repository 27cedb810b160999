"""The tables in the documents are those of the committed results."""

import json

import numpy as np
import pytest
from checkout import ROOT
from made_up_results import repeated

from experiments.ablation import report as ablation_report
from experiments.compare.results import read_results
from experiments.paper_claims import claims, measurements
from experiments.repeated_data import report as repeated_report
from experiments.speed import scaling, speed
from experiments.speed.timing import Spread
from lm_jax import files

RESULTS = ROOT / "experiments" / "results"
RUN = RESULTS / "tinystories_cpu"


def test_no_story_of_the_corpus_is_in_the_results():
    """The corpus is not part of this project: held-out stories are not among them."""
    assert not read_results(RUN)["human"].get("samples")


def test_results_show_the_tables_of_the_claims():
    """The README's tables are those that the committed JSON gives."""
    text = (ROOT / "experiments" / "results" / "README.md").read_text()
    assert f"{claims.BEGIN}\n{claims.markdown()}\n{claims.END}" in text


@pytest.mark.parametrize("corpus", ["storyworld", "tinystories"])
def test_the_study_of_factors_shows_what_its_numbers_say(corpus):
    """study.md is what the report makes of the committed study.json."""
    path = RESULTS / f"study_{corpus}"
    text = (path / "study.md").read_text(encoding="utf-8")
    assert ablation_report.markdown(ablation_report.read_study(path)) == text


def test_the_data_constrained_study_shows_what_its_numbers_say():
    """data_constrained.md is what its report makes of the committed JSON."""
    path = RESULTS / "data_constrained"
    found = files.read_json(path / "data_constrained.json")
    text = (path / "data_constrained.md").read_text(encoding="utf-8")
    assert repeated_report.markdown(found) == text


def test_sources_without_a_run_have_no_table(tmp_path):
    """No table whose cells say that nothing was measured."""
    assert claims.markdown(tmp_path) == ""
    assert claims.MISSING not in claims.markdown()


def test_speeds_are_compared_within_rounds():
    """MDLM took 4, 2 and 3 times as long as AR: a third of its speed, 1/4 to 1/2."""
    ar = Spread((1.0, 2.0, 1.0))
    mdlm = Spread((4.0, 4.0, 3.0))
    part = {
        "families": {"ar": {"tokens_per_second": 12.0}},
        "ratios": {"mdlm / ar": mdlm.faster_than(ar)._asdict()},
    }
    found = measurements.speeds_of({"training": {"shapes": [part]}})
    protocol = {name: {"tokens_per_second": [found[name]]} for name in found}
    gap = claims.gap_of(protocol, "tokens_per_second")
    assert gap == pytest.approx((4.0 - 12.0, 3.0 - 12.0, 6.0 - 12.0))


def test_convergence_is_read_from_every_corpus(tmp_path):
    """AR is at its best halfway through 16 epochs, MDLM at the end of all."""
    falls, turns = [3.0, 2.0, 1.0], [3.0, 2.0, 2.5]
    stored = repeated(
        {
            ("AR", 1): falls,
            ("AR", 16): turns,
            ("MDLM", 1): falls,
            ("MDLM", 16): falls,
        }
    )
    path = tmp_path / claims.REPEATED / "data_constrained.json"
    path.parent.mkdir()
    path.write_text(json.dumps(stored))
    text = claims.markdown(tmp_path)
    once, often = (
        line for line in text.splitlines() if line.startswith(("| 1.0 ", "| 16.0 "))
    )
    assert "1.000, 1.000 | +0.000 [+0.000, +0.000] | no difference in any" in once
    assert "0.500, 1.000 | +0.500 [+0.500, +0.500] | holds | 0.500 [" in often


@pytest.mark.parametrize(
    "gap, words",
    [
        ((0.3, 0.1, 0.5), "holds"),
        ((0.0, 0.0, 0.0), "no difference in any seed"),
        ((-0.3, -0.5, -0.1), "reversed"),
        ((0.3, -0.1, 0.5), "unresolved"),
        ((0.3, -np.inf, np.inf), "unresolved: one seed"),
    ],
)
def test_the_result_of_a_claim_follows_from_the_interval(gap, words):
    """The paper says that MDLM's openings are more varied than AR's."""
    (claim,) = [c for c in claims.CLAIMS if c.metric == "unique_openings"]
    assert claims.verdict(claim, claims.Estimate(*gap)) == words
    unpublished = claim._replace(published=None)
    expected = {"holds": "MDLM higher", "reversed": "MDLM lower"}.get(words, words)
    assert claims.verdict(unpublished, claims.Estimate(*gap)) == expected


def test_claims_read_a_comparison():
    """One seed: its own numbers, with intervals over samples where there are some."""
    found = measurements.from_comparison(read_results(RUN))
    own = read_results(RUN)["families"]["mdlm"]
    (estimate,) = found["MDLM"]["unique_openings"]
    assert estimate._asdict() == own["diversity"]["unique_openings"]
    gap = claims.gap_of(found, "unique_openings")
    assert gap is not None and np.isfinite([gap.low, gap.high]).all()
    gap = claims.gap_of(found, "tokens_per_second")
    assert gap is not None and np.isinf(gap.low)


@pytest.mark.parametrize(
    "name",
    [
        "loop",
        "sampling_tiny",
        "tinystories_cpu",
        "tinystories_cpu_jax_0.10",
        "width_256",
        "width_512",
    ],
)
def test_tables_of_speed_are_those_of_their_numbers(name):
    """docs/speed.md shows what experiments.speed makes of the committed numbers."""
    found = files.read_json(RESULTS / "speed" / f"{name}.json")
    assert speed.table(found) in (ROOT / "docs" / "speed.md").read_text()


@pytest.mark.parametrize("name", ["study", "350m", "1b"])
def test_tables_of_scaling_are_those_of_their_numbers(name):
    """docs/speed.md shows the tables of the committed numbers."""
    found = files.read_json(RESULTS / "speed" / f"scaling_{name}.json")
    text = (ROOT / "docs" / "speed.md").read_text()
    assert scaling.table(found["meshes"]) in text
