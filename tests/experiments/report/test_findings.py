"""What the report says of its numbers, and what it must not say."""

import math
import re

import numpy as np
import pytest
from made_up_results import (
    OPENINGS,
    Page,
    drop_metrics,
    estimates,
    family,
    make_results,
    texts,
)

from experiments.report import (
    comparisons,
    detail_tables,
    figures,
    findings,
    sampler_likelihood,
    tables,
)
from experiments.report.format import bound, estimate
from experiments.report.html import to_html, to_markdown
from experiments.report.series import Results, sources
from lm_jax.evaluation.openings import opening_shares


@pytest.fixture(scope="module")
def results() -> Results:
    return make_results()


def test_bounds_are_never_printed_as_likelihoods(results):
    """Every MDLM likelihood carries its sign, error and draws; AR's carries none."""
    for name in ("likelihood", "curve"):
        table = tables.all_tables(results)[name]
        cells = [
            (row[0], h, c)
            for row in table.rows
            for h, c in zip(table.header[1:], row[1:], strict=True)
        ]
        bounds = [cell for row, column, cell in cells if "MDLM" in row + column]
        exact = [cell for row, column, cell in cells if "MDLM" not in row + column]
        draws = {"likelihood": 16, "curve": 8}[name]
        assert bounds and exact
        for cell in bounds:
            assert re.fullmatch(rf"≤ \d\.\d{{3}} ± \d\.\d{{3}} \({draws} draws\)", cell)
        assert not any("≤" in cell or "±" in cell for cell in exact)
    assert "≤ 1.342 ± 0.004 (16 draws)" in to_markdown(results)
    assert (
        "MDLM (≤ bound)"
        in figures.render(figures.learning_curves(results), "svg").decode()
    )


def test_the_likelihood_of_a_sampler_is_exact_bounded_or_refused(results):
    """No bound without its sign, no lower bound that was not found, no number where
    there is none; the figure has a mark for each that is finite."""
    rows = detail_tables.sampler_likelihood(results).rows
    cells = [nats for label, _, nats, _ in rows if label == "MDLM"]
    bound = "≤ 0.729 (16 orders; certified ≤ 0.731; NELBO 0.810)"
    assert cells == [
        "0.816 [0.780, 0.850]",
        bound,
        f"0.700 ≤, {bound}",
        "infinite: 3 windows have probability 0",
        "none: it drops or masks tokens",
    ]
    assert [p.family.name for p in sampler_likelihood.points(results)] == [
        *["ar"] * 3,
        *["mdlm"] * 3,
    ]
    lines = sampler_likelihood.figure(results).axes[0].lines
    fills = [
        line.get_markerfacecolor() for line in lines if line.get_marker() != "None"
    ]
    assert len(fills) == 6 and fills.count("none") == 2  # hollow: the bounds
    # One has a bar down to its lower bound, and each family's marks are joined.
    assert len(lines) == 7 + 2


def test_a_finding_says_how_much_of_the_bound_is_slack(results):
    """By the certified value; without one it says that this is not known."""
    ar, mdlm = (s for s in sources(results) if s.name in ("ar", "mdlm"))
    text = findings.likelihood(ar, mdlm, results)
    assert "the NELBO is 0.810, and the likelihood at most 0.731 with 95%" in text
    assert "(16 orders): 0.079 nats are slack" in text
    assert "exact likelihood: 0.816 nats per token of 16 windows, in 28 calls" in text
    assert "It is not known" not in text
    without = {name: part for name, part in results.items() if name != "frontier"}
    assert "It is not known how much of this gap" in findings.likelihood(
        ar, mdlm, without
    )


def test_cells_print_what_is_known_and_no_more():
    """Value with interval, exact value, bound, and a dash where there is none."""
    assert estimate({"value": 0.341, "low": 0.33, "high": 0.352}) == (
        "0.341 [0.330, 0.352]"
    )
    assert estimate({"value": 1204.0, "low": 1190, "high": 1210}, ",.0f") == (
        "1,204 [1,190, 1,210]"
    )
    assert estimate({"value": 0.5, "low": None, "high": None}) == "0.500"
    for nothing in (None, {}, {"value": None}, {"value": math.nan}):
        assert estimate(nothing) == "–"
    score = {"is_bound": True, "standard_error": 0.004, "num_draws": 16}
    assert bound(score, 1.2341) == "≤ 1.234 ± 0.004 (16 draws)"
    assert bound({"is_bound": False, "standard_error": 0.0}, 1.2341) == "1.234"
    assert bound(score, None) == "–"


def test_bits_per_byte_of_the_source_agree_with_its_nats(results):
    """bits = nats / (log 2 * bytes), for the source as for the models."""
    source, ar, _ = tables.likelihood(results).rows
    per_byte = math.log(2.0) * 3.6
    assert source[1:3] == ("1.104", f"{1.104 / per_byte:.3f}")
    assert ar[3] == f"{1.213 - 1.104:.3f}"


def test_missing_metrics_are_dashes(results):
    """Held-out text has no finished_share; a run without metrics still has a report."""
    rows = {row[0]: row for row in tables.all_tables(results)["fluency"].rows}
    assert rows["Finished samples (end with EOS)"][-1] == "–"
    assert rows["Finished samples (end with EOS)"][1] != "–"
    empty = drop_metrics(make_results())
    assert figures.plots(empty) == {}
    assert Page(to_html(empty)).open == []
    assert "nan" not in to_markdown(empty).lower()
    assert "–" in to_markdown(empty)


def test_a_metric_that_the_report_does_not_know_is_shown_by_its_name():
    """results.json may grow: no number of it is lost without a word."""
    results = make_results()
    results["families"]["ar"]["fluency"] |= estimates(judge_nats=2.5)
    rows = {row[0]: row for row in tables.all_tables(results)["fluency"].rows}
    assert rows["judge_nats"] == ("judge_nats", "2.500 [2.425, 2.575]", "–", "–")


def test_a_third_family_needs_no_change():
    """It gets a column, a colour of its own, a curve and its own findings."""
    results = make_results()
    third = family("Block <3>", True, 1.28, 2) | texts(0.9, "A story.")
    results["families"]["block"] = third
    colors = [source.color for source in sources(results)]
    assert len(set(colors)) == 4
    curves = figures.render(figures.learning_curves(results), "svg").decode()
    assert "Block &lt;3&gt; (≤ bound)" in curves and colors[2].lower() in curves
    assert r"| Block \<3\> |" in to_markdown(results)
    titles = [finding.title for finding in findings.findings(results)]
    assert {"Likelihood of MDLM", "Likelihood of Block <3>"} < set(titles)


def test_learning_curve_holds_every_point_and_the_entropy(results):
    """Lines pass through the numbers of results.json, in units named on the axis."""
    for against, unit, label in (
        ("step", 1, "Training step"),
        ("tokens", 1e6, "Training tokens (million)"),
        ("flops", 1e12, "Training FLOPs (10¹²)"),
        ("seconds", 60, "Training time (min)"),
    ):
        (axes,) = figures.learning_curves(results, against).axes
        assert axes.get_xlabel() == label
        ar, mdlm, entropy = axes.lines
        for line, name in ((ar, "ar"), (mdlm, "mdlm")):
            curve = results["families"][name]["curve"]
            x = [point[against] / unit for point in curve]
            y = [point["nats_per_token"] for point in curve]
            np.testing.assert_allclose(np.asarray(line.get_xydata()).T, [x, y])
        assert set(np.asarray(entropy.get_xydata())[:, 1]) == {1.104}
    with pytest.raises(ValueError, match="against='epoch'.*step, tokens"):
        figures.learning_curves(results, "epoch")


def test_an_opening_outside_the_ten_is_an_upper_limit_and_not_zero(results):
    """share <= min(tenth share, 1 - sum of the ten), drawn hollow."""
    (axes,) = figures.openings(results).axes
    hollow = [bar for bar in axes.patches if not bar.get_fill()]
    tenth = results["families"]["ar"]["opening_shares"][-1][1]
    assert [bar.get_extents().width for bar in hollow] == [
        pytest.approx(axes.transData.transform((tenth, 0))[0] - axes.bbox.x0)
    ] * 2
    assert len(axes.patches) == 30
    few = make_results()
    stories = ["a b c d e f"] * 3 + [f"{OPENINGS[0]} x"]
    few["families"]["ar"]["opening_shares"] = opening_shares(stories)
    (axes,) = figures.openings(few).axes  # all its openings are known: others have none
    assert all(bar.get_fill() for bar in axes.patches)
    assert len(axes.patches) == 21


@pytest.mark.parametrize(
    "nats, claim",
    [
        (1.342, "how much of this gap is due to the model and how much to the bound"),
        (
            1.100,
            "MDLM is the better model of this text: even its bound is 0.113 lower",
        ),
        (1.216, "the draws do not resolve the difference"),
    ],
)
def test_a_bound_can_only_prove_a_model_better(nats, claim, results):
    """A bound above an exact value says nothing of which model is better."""
    mdlm = family("MDLM", True, nats, 1)
    ar, _, _ = sources(results)
    other = sources({"families": {"mdlm": mdlm}})[0]
    without_samplers = {name: x for name, x in results.items() if name != "frontier"}
    text = findings.likelihood(ar, other, without_samplers)
    assert claim in text
    assert "≤" in text and "16 draws" in text
    assert ("AR is the better" in text) is False


def test_findings_claim_only_what_intervals_resolve():
    """Equal values with overlapping intervals are called unresolved, and not ranked."""
    results = make_results()
    for name in ("diversity", "openings", "fluency"):
        results["families"]["mdlm"][name] = results["families"]["ar"][name]
    found = {finding.title: finding.text for finding in findings.findings(results)}
    assert "AR and MDLM differ in 0 of 9" in found["Variety"]
    assert "difference between AR and MDLM is not resolved" in found["Fluency"]
    assert "not resolved whose distribution of first words" in found["Openings"]
    assert not re.search(
        "is higher|'s distribution", found["Openings"] + found["Fluency"]
    )
    apart = {f.title: f.text for f in findings.findings(make_results())}
    assert "MDLM's distribution of first words is closer" in apart["Openings"]
    assert "differ in 8 of 9" in apart["Variety"]


def test_convergence_names_the_best_step_and_the_rise_after_it():
    """A loss that rises by less than its draws can tell is not called overfitting."""
    results = make_results()
    for name, error in (("ar", 0.0), ("mdlm", 0.05)):
        nats = [3.0, 1.5, 1.6]
        results["families"][name]["curve"] = [
            {"step": 1000 * i, "nats_per_token": y, "standard_error": error}
            for i, y in enumerate(nats, 1)
        ]
    ar, mdlm, _ = sources(results)
    assert findings.convergence(ar) == (
        "AR's loss is lowest at step 2,000 of 3,000 and is 0.100 higher at the end."
    )
    assert "that the draws do not resolve" in findings.convergence(mdlm)
    assert findings.convergence(mdlm).startswith("MDLM's bound")


def test_comparisons_say_what_the_intervals_say(results):
    """Higher or not resolved; a bound above an exact value proves nothing."""
    ar, mdlm, _ = sources(results)
    found = {
        comparison.measure.name: comparison.words
        for comparison in comparisons.comparisons(results, ar, mdlm)
    }
    assert found["nats_per_token"] == "not resolved (MDLM is a bound)"
    assert found["distinct_4"] == "MDLM > AR"
    assert found["longest_copied_run"] == "AR > MDLM"
    assert found["known_word_share"] == "not resolved"
    assert found["tokens_per_second"] == "not resolved (one run)"
    (scored,) = (
        row for row in comparisons.verdicts(results).rows if row[1] == "Likelihood"
    )
    assert scored[2:4] == ("1.213", "≤ 1.342 ± 0.004 (16 draws)")
    results = {**results, "differences": {}}
    found = {
        c.measure.name: c.words for c in comparisons.comparisons(results, ar, mdlm)
    }
    assert found["nats_per_token"] == "not resolved (no common windows)"
    text = comparisons.in_words(results, ar, mdlm)
    for subject in ("throughput", "convergence", "likelihood"):
        assert f"{subject} not resolved" in text
    for subject in ("openings", "variety", "fluency", "copying"):
        assert f"{subject} resolved" in text
    assert "one training seed" in text


def test_openings_are_held_against_the_corpus_itself():
    """Above what the corpus's own samples reach: different; else not to be told."""
    results = make_results()
    for name, value in (("ar", 0.30), ("mdlm", 0.36)):
        results["families"][name]["openings_by_length"]["5"] = {
            "jensen_shannon": {"value": value, "low": 0.2, "high": 0.5},
            "jensen_shannon_floor": {"value": 0.3, "low": 0.26, "high": 0.35},
        }
    ar, mdlm, corpus = sources(results)
    text = findings.openings(ar, mdlm, corpus)
    assert "AR's five-word openings cannot be distinguished from those of the" in text
    assert "MDLM's five-word openings differ from those of the corpus" in text


def test_a_bound_below_an_exact_value_is_resolved(results):
    """MDLM's bound 0.2 below AR's exact value: AR needs more, whatever the slack."""
    gap = {"value": -0.2, "low": -0.21, "high": -0.19}
    results = {**results, "differences": {"nats_per_token": {"mdlm": gap}}}
    ar, mdlm, _ = sources(results)
    found = {
        c.measure.name: c.words for c in comparisons.comparisons(results, ar, mdlm)
    }
    assert found["nats_per_token"] == "AR > MDLM"


def test_seeds_decide_where_there_are_several(results):
    """The last column and the sentence speak of the t-interval over seeds."""
    names = ("training.tokens_per_second", "variety.distinct_4")
    gaps = [{"value": -9.0, "low": -12, "high": -6}, {"value": 1, "low": -1, "high": 3}]
    part = {name: {"value": 1.0, "low": 0.9, "high": 1.1} for name in names}
    seeds = {
        "seeds": [0, 1, 2],
        "families": {"ar": part, "mdlm": part},
        "differences": {"mdlm": dict(zip(names, gaps, strict=True))},
    }
    results = {**results, "seeds": seeds}
    ar, mdlm, _ = sources(results)
    found = {
        c.measure.name: c.over_seeds for c in comparisons.comparisons(results, ar, mdlm)
    }
    assert found["tokens_per_second"] == "AR > MDLM"
    assert found["distinct_4"] == "not resolved"
    text = comparisons.in_words(results, ar, mdlm)
    assert "throughput resolved" in text and "3 training seeds" in text
    assert "seeds 0, 1, 2" in findings.caveat(results)
    assert len(tables.all_tables(results)["seeds"].rows) == 2
