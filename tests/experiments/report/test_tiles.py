"""The first screen: what a tile says follows from the numbers and their intervals."""

import copy

import pytest
from made_up_results import make_results

from experiments.compare.__main__ import ending
from experiments.report.tables import likelihood
from experiments.report.tiles import tiles


@pytest.fixture
def results():
    return make_results()


def by_title(results):
    return {tile.title: tile for tile in tiles(results)}


def test_there_is_a_tile_for_each_question(results):
    """The paper's three claims, likelihood and fluency."""
    titles = ["Training speed", "Convergence", "Openings", "Likelihood", "Fluency"]
    assert [tile.title for tile in tiles(results)] == titles


@pytest.mark.parametrize(
    "ar, mdlm, answer",
    [
        (3000.0, 2000.0, "AR trains 1.50 times as fast as MDLM"),
        (2000.0, 3000.0, "MDLM trains 1.50 times as fast as AR"),
    ],
)
def test_speed_is_a_ratio_that_one_run_does_not_resolve(results, ar, mdlm, answer):
    for name, value in (("ar", ar), ("mdlm", mdlm)):
        results["families"][name]["training"]["tokens_per_second"] = value
    tile = by_title(results)["Training speed"]
    assert tile.answer == answer
    assert tile.state == "not resolved (one run)" and tile.mark is None


@pytest.mark.parametrize("mdlm, is_resolved", [(0.30, True), (0.19, False)])
def test_the_mark_and_the_state_say_the_same(results, mdlm, is_resolved):
    """Resolved is where the interval of the difference leaves out zero."""
    for name, value in (("ar", 0.2), ("mdlm", mdlm)):
        results["families"][name]["diversity"]["unique_openings"] = {
            "value": value,
            "low": value - 0.03,
            "high": value + 0.03,
        }
    tile = by_title(results)["Openings"]
    gap, half = mdlm - 0.2, 0.03 * 2**0.5
    leader = "MDLM" if gap > 0.0 else "AR"
    assert tile.answer == f"{leader} has more distinct openings, by {abs(gap):.3f}"
    assert tile.is_resolved is is_resolved
    ends = [(gap - half), gap, (gap + half)]
    scale = max(map(abs, ends))
    assert tile.mark == pytest.approx(tuple(end / scale for end in ends))


def test_a_bound_that_is_higher_resolves_nothing(results):
    tile = by_title(results)["Likelihood"]
    assert tile.answer.startswith("AR is ")
    assert tile.answer.endswith(" nats per token below MDLM's bound")
    assert tile.state == "not resolved (MDLM is a bound)"
    assert "MDLM ≤ " in tile.values


def test_over_seeds_the_interval_is_that_of_the_seeds(results):
    """Three seeds replace the interval of one run."""
    one = by_title(results)["Training speed"]
    gap = {"value": -200.0, "low": -300.0, "high": -100.0}
    metrics = {"training.tokens_per_second": gap}
    results["seeds"] = {"seeds": [0, 1, 2], "differences": {"mdlm": metrics}}
    tile = by_title(results)["Training speed"]
    assert one.mark is None and tile.mark == pytest.approx((-1.0, -2 / 3, -1 / 3))
    assert tile.state == "resolved" and tile.answer == one.answer


def test_convergence_names_the_best_step_of_each(results):
    curve = [{"step": s, "nats_per_token": n} for s, n in ((0, 9), (70, 1), (100, 2))]
    falling = [{"step": s, "nats_per_token": n} for s, n in ((0, 9), (70, 3), (100, 2))]
    results["families"]["ar"]["curve"] = curve
    results["families"]["mdlm"]["curve"] = falling
    answer = by_title(results)["Convergence"].answer
    assert answer == "Best validation: AR at 70% of the run, MDLM at the end"
    results["families"]["ar"]["curve"] = falling
    assert "both best at the end" in by_title(results)["Convergence"].answer


def test_a_third_family_has_tiles_of_its_own(results):
    results["families"]["third"] = copy.deepcopy(results["families"]["mdlm"])
    results["families"]["third"]["label"] = "Third"
    titles = list(by_title(results))
    assert len(titles) == 10 and titles[5] == "Training speed of Third"


def test_the_end_of_a_run_fits_on_a_terminal(results, tmp_path):
    """At most 25 lines: the answers, the report, and what to try next."""
    text = ending(results, tmp_path, tmp_path / "report.html")
    assert len(text.splitlines()) <= 25
    for tile in tiles(results):
        assert f"{tile.title}: {tile.answer}; {tile.state}." in text
    assert f"report: {tmp_path / 'report.html'}" in text
    assert f"python -m mdlm_jax.sample --workdir={tmp_path / 'mdlm'}" in text


def test_exact_values_answer_before_a_bound_does(results):
    """With an exact value of both families the difference is one of likelihoods."""
    assert not by_title(results)["Likelihood"].is_resolved  # MDLM's is a bound
    for name, value, sampler in (("ar", 1.2, ""), ("mdlm", 1.3, "confidence@0")):
        part = results["families"][name]
        part["exact"] = {
            "nats_per_token": {"value": value, "low": value - 0.1, "high": value + 0.1}
        }
        part["exact_of"] = {"sampler": sampler, "num_windows": 32}
    gap = {"value": 0.1, "low": 0.05, "high": 0.2}
    results["differences"]["exact"] = {"mdlm": gap}
    tile = by_title(results)["Likelihood"]
    below = "AR is 0.100 nats per token below MDLM with the sampler confidence@0"
    assert tile.answer == below and tile.is_resolved
    assert tile.mark == pytest.approx((0.25, 0.5, 1.0))
    assert "AR 1.200 [1.100, 1.300], MDLM 1.300 [1.200, 1.400]" in tile.values
    rows = [row[:2] for row in likelihood(results).rows]
    assert ("AR, 32 windows", "1.200 [1.100, 1.300]") in rows
    gap["low"] = -0.01
    assert by_title(results)["Likelihood"].state == "not resolved"
