"""The report: numbers keep their meaning, text stays text, and nothing is fetched."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest

from experiments import report
from lm_jax.config import Config
from lm_jax.evaluation.openings import opening_shares
from lm_jax.report import figures, findings, overlay, published, tables, verdicts
from lm_jax.report import page as page_module
from lm_jax.report.cells import bound, estimate
from lm_jax.report.page import to_html, to_markdown, write_report
from lm_jax.report.player import player_page
from lm_jax.report.sources import Results, sources
from lm_jax.report.templating import css_color
from lm_jax.sampling.playback import END

HOSTILE = "<script>alert(1)</script> & friends"
OPENINGS = [
    "once upon a time, there", "there was a little girl", "one day, tom went to",
    "lily and ben were in", "in a small house lived", "a bird named kiki saw",
    "tim had a red ball", "it was a sunny day", "every morning, sam and his",
    "a long, long time ago",
]  # fmt: skip
VOID = {"meta", "link", "input", "br", "hr", "img"}


def estimates(**values: float) -> dict[str, dict[str, float]]:
    """Each value with an interval of 3% on both sides."""
    return {
        name: {"value": value, "low": 0.97 * value, "high": 1.03 * value}
        for name, value in values.items()
    }


def texts(variety: float, first: str) -> dict[str, Any]:
    """What is measured of the stories of one source; more is more varied."""
    shares = [0.19 / (1 + 0.4 * i / variety) for i in range(10)]
    shares = [share / (2.2 * sum(shares)) for share in shares]
    stories = [
        f"{OPENINGS[i % 10].capitalize()} was happy. They played with the red ball all "
        f"day long. “Can I play too?” asked the frog.\nStory {i} ends well."
        for i in range(1, 20)
    ]
    return {
        "diversity": estimates(
            distinct_1=0.021 * variety,
            distinct_2=0.14 * variety,
            distinct_3=0.31 * variety,
            distinct_4=0.46 * variety,
            self_bleu=0.55 / variety,
            vocabulary=1204 * variety,
            unique_first_words=0.07 * variety,
            unique_openings=0.41 * variety,
            words_per_story=88.3,
        ),
        "openings": estimates(
            share_of_commonest_first_word=0.41 / variety,
            share_of_commonest_opening=0.12 / variety,
            first_word_entropy=2.1 * variety,
            opening_entropy=4.4 * variety,
            opening_distance=0.11 / variety,
        ),
        "openings_by_length": {
            "1": estimates(distinct=40 * variety, jensen_shannon=0.2 / variety)
        },
        "opening_shares": [list(p) for p in zip(OPENINGS, shares, strict=True)],
        "variety": estimates(
            distinct_4=0.44 * variety, compression_ratio=2.5 / variety
        ),
        "fluency": estimates(
            accepted_share=0.71 * variety,
            known_word_share=0.93,
            seen_4gram_share=0.62,
            copied_8gram_share=0.08,
            longest_copied_run=9.4 / variety,
        ),
        "grammar": {
            "errors": estimates(hero=0.04),
            "source_nats_per_story": estimates(x=33.1)["x"],
            "backward_kl_per_story": None,
        },
        "samples": [first, *stories],
    }


def family(label: str, is_bound: bool, nats: float, seed: int) -> dict[str, Any]:
    """A model that learns from log V down to `nats`."""
    rng = np.random.default_rng(seed)
    steps = [1, *range(100, 2001, 100)]
    error = 0.012 if is_bound else 0.0
    speed = 20_500.0 if is_bound else 21_900.0
    curve = [
        {
            "step": step,
            "tokens": step * 8192,
            "flops": step * 8192 * 6.1e6,
            "seconds": step * 8192 / speed,
            "nats_per_token": nats
            + (math.log(1024) - nats) * math.exp(-step / 260)
            + rng.normal() * error,
            "standard_error": error,
        }
        for step in steps
    ]
    bits = nats / (math.log(2.0) * 3.6)
    return {
        "label": label,
        "is_bound": is_bound,
        "num_params": 1_085_696 if is_bound else 1_052_672,
        "num_time_embedding_params": 33_024 if is_bound else 0,
        "flops_per_token": 6.1e6,
        "training": {
            "num_steps": 2_000,
            "num_tokens": 2_000 * 8192,
            "seconds": 2_000 * 8192 / speed,
            "tokens_per_second": speed,
            "seconds_evaluating": 31.2,
            "seconds_saving": 2.4,
        },
        "curve": curve,
        "train_curve": [],
        "likelihood": {
            "nats_per_token": nats,
            "bits_per_byte": bits,
            "is_bound": is_bound,
            "standard_error": 0.004 if is_bound else 0.0,
            "low": nats - (0.008 if is_bound else 0.0),
            "high": nats + (0.008 if is_bound else 0.0),
            "num_tokens": 98_304,
            "num_bytes": 353_000,
            "num_draws": 16 if is_bound else 0,
            "num_windows": 384,
        },
        "sampling": {
            "num_samples": 256,
            "seconds": 12.0,
            "tokens_per_second": 5_461.3,
            "settings": {"temperature": 1.0, "top_p": 1.0, "num_steps": 0},
        },
    }


def trace(family_name: str) -> dict[str, Any]:
    """A story with markup in it: left to right, or word by word from the back.

    The last word of MDLM is written twice: masked again, and written over.
    """
    pieces = [*re.findall(r" ?[^ ]+", HOSTILE), END]
    given: list[Any] = [None] * len(pieces)
    events: list[list[Any]] = [[i, i, piece] for i, piece in enumerate(pieces)]
    if family_name == "mdlm":
        last = len(pieces) - 1
        events = [[2 * i, last - i, piece] for i, piece in enumerate(pieces[::-1])]
        events[1][2] = " foes"
        events += [[2 * last + 2, last - 1, None], [2 * last + 4, last - 1, pieces[-2]]]
    return {
        "text": HOSTILE,
        "num_calls": len(pieces) + 2 * (family_name == "mdlm"),
        "given": given,
        "events": events,
    }


def infill() -> dict[str, Any]:
    """Two gaps in given text; behind the end the window goes on."""
    pieces = ["Tom", " saw", " a", " dog", ".", END, "One", " day"]
    free = {1: 3, 3: 1, 6: 2, 7: 0}
    return {
        "text": "Tom saw a dog.",
        "num_calls": 4,
        "given": [None if i in free else piece for i, piece in enumerate(pieces)],
        "events": sorted([step, i, pieces[i]] for i, step in free.items()),
    }


def point(self_bleu: float, accepted: float) -> dict[str, Any]:
    """One setting of a frontier."""
    return {
        "setting": "temperature=0.7",
        "seconds_per_story": 0.1 + self_bleu,
        "samples": ["A colder story."],
        **estimates(self_bleu=self_bleu, accepted_share=accepted, distinct_4=0.3),
    }


def make_results() -> Results:
    """Numbers like those of a small run; AR's ten openings are not all human."""
    ar = family("AR", False, 1.213, 0) | texts(0.8, HOSTILE)
    mdlm = family("MDLM", True, 1.342, 1) | texts(0.97, "A | B `c` *d* ``` e.")
    ar["opening_shares"][3:5] = [
        ["tom and lily were at", 0.05],
        ["$x_1$ < y & z", 0.03],
    ]
    ar["fluency"] |= estimates(finished_share=0.97)
    mdlm["fluency"] |= estimates(finished_share=0.94)
    for name, part in (("ar", ar), ("mdlm", mdlm)):
        part["traces"] = [trace(name), trace(name)]
        part["order"] = estimates(kendall_tau=0.9, tokens_per_call=1.7)
        part["can_look_ahead"] = name == "mdlm"
    mdlm["infills"] = [infill(), infill()]
    return {
        "format": 1,
        "command": "python -m experiments.compare --workdir=runs/tiny",
        "config": Config().to_dict(),
        "seed": 0,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "machine": {"cpu": "Some CPU", "num_cores": 2, "devices": ["cpu"]},
        "versions": {"python": "3.12.1", "jax": "0.11.0", "flax": "0.12.8"},
        "corpus": {
            "name": "storyworld",
            "fingerprint": "2f6c0a",
            "num_train_windows": 5_000,
            "num_train_tokens": 1_280_000,
            "num_valid_windows": 384,
            "num_valid_tokens": 98_304,
            "num_train_stories": 20_000,
            "num_valid_stories": 1_000,
            "bytes_per_token": 3.6,
            "entropy": {"nats_per_story": 61.3, "nats_per_token": 1.104},
        },
        "families": {"ar": ar, "mdlm": mdlm},
        "differences": {
            "nats_per_token": {"mdlm": {"value": 0.129, "low": 0.11, "high": 0.15}}
        },
        "frontier": {
            "num_stories": 32,
            "families": {
                name: [point(0.4 + 0.1 * i, 0.9 - 0.2 * i) for i in range(3)]
                for name in ("ar", "mdlm")
            },
            "human": point(0.35, 1.0),
        },
        "human": texts(1.0, "Once upon a time, there was a dog."),
    }


class Page(HTMLParser):
    """Parses a page strictly: what is opened is closed, in order."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []  # innermost tag and the text in it
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text.append((self.open[-1] if self.open else "", data))

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]

    def texts(self, tag: str) -> list[str]:
        return [data for innermost, data in self.text if innermost == tag]


@pytest.fixture(scope="module")
def results() -> Results:
    return make_results()


@pytest.fixture(scope="module")
def html(results) -> str:
    return to_html(results)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


@pytest.fixture(scope="module")
def markdown(results) -> str:
    return to_markdown(results)


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory) -> Path:
    """A run directory whose report the command has built from results.json."""
    workdir = tmp_path_factory.mktemp("run")
    (workdir / "results.json").write_text(json.dumps(make_results()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            report.flags,
            "FLAGS",
            SimpleNamespace(workdir=[str(workdir)], out="", player=True),
        )
        report.main()
    return workdir


def drop_metrics(results: Results) -> Results:
    """A run of which hardly anything was measured."""
    for part in (*results["families"].values(), results["human"]):
        for name in ("diversity", "openings", "fluency", "likelihood", "sampling"):
            part[name] = {}
        part["order"] = {}
        for name in ("curve", "opening_shares", "samples", "traces", "infills"):
            part[name] = []
        part["training"] = {}
    del results["frontier"]
    return results


def test_page_is_balanced_and_its_ids_are_unique(page):
    """Tags close in order, no id stands twice, every reference has a target."""
    assert page.open == []
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    targets = [ref[1:] for ref in page.attributes("href") if ref.startswith("#")]
    targets += [i for refs in page.attributes("aria-labelledby") for i in refs.split()]
    targets += page.attributes("for")
    assert targets and set(targets) <= set(ids)


def test_page_needs_no_other_file(html, page):
    """One file under 5 MB: the only address in it is the study's, to click on."""
    assert len(html.encode()) < 5e6
    assert set(re.findall(r"https?://[^\"'<>\s]+", html)) == {published.URL}
    addresses = [
        value
        for tag, attrs in page.tags
        for name, value in attrs.items()
        if name in ("src", "href", "srcset", "data") and not value.startswith("#")
    ]
    assert sorted(addresses) == ["data:,", published.URL]
    assert "@import" not in html and "url(" not in re.sub(r"url\(#", "", html)


def test_generated_text_is_shown_as_text(html, page):
    """A story that is a script is read, not run; the policy admits our script alone."""
    assert HOSTILE not in html
    assert any("<script>alert(1)</script>" in text for text in page.texts("p"))
    kinds = [attrs.get("type") for tag, attrs in page.tags if tag == "script"]
    assert kinds == ["application/json", None]
    assert "alert" not in page.texts("script")[-1]
    (policy,) = (
        attrs["content"]
        for tag, attrs in page.tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_page_is_made_for_every_reader(html, page):
    """Language, headings in order, captions, scopes, named figures, labelled inputs."""
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    count = [tag for tag, _ in page.tags].count
    assert count("table") == count("caption") > 10
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(drawings) == len(figures.PLOTS)
    assert all(attrs["role"] == "img" for attrs in drawings)
    assert count("label") == count("input") + count("select")
    for rule in ("prefers-color-scheme: dark", "@media print", "width=device-width"):
        assert rule in html


def test_figures_on_the_page_take_its_colours(page):
    """Text and axes in the colour of the page's text; families in their own."""
    styles = " ".join(page.attributes("style")).lower()
    assert "currentcolor" in styles and figures.INK.lower() not in styles
    for source in sources(make_results()):
        assert css_color(source.color) in styles
        assert source.color.lower() not in styles


def test_markdown_shows_generated_text_as_text(markdown):
    """Cells keep their column, and no story closes the block that it stands in."""
    assert f"```text\n{HOSTILE}\n```" in markdown
    assert "````text\nA | B `c` *d* ``` e.\n````" in markdown
    assert tables.escape_markdown("a|b `c` <d> [e](f)\n& g_") == (
        r"a\|b \`c\` \<d\> [e]\(f) &amp; g\_"
    )
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    blocks = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(rows) > 40
    for block in blocks:
        widths = {len(re.split(r"(?<!\\)\|", row)) for row in block.splitlines()}
        assert len(widths) == 1, block


def test_every_source_stands_in_every_comparison(html, markdown):
    """Both families and held-out text, and the study's figures marked as such."""
    for text in (html, markdown):
        for label in ("AR", "MDLM", "Held-out text"):
            assert label in text
        warning = "published by the study (other model size, other data split"
        assert text.count(warning) == 3
        assert text.count(published.CITATION) >= 3


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
    assert rows["Stories that end by themselves"][-1] == "–"
    assert rows["Stories that end by themselves"][1] != "–"
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


def test_figures_are_the_same_bytes_every_time(rebuilt, results, tmp_path):
    """No date, no random id, no setting of the user's: files can be compared."""
    with matplotlib.rc_context(
        {"font.size": 20, "lines.linewidth": 9, "xtick.direction": "in"}
    ):
        again = figures.write_figures(results, tmp_path)
    assert [path.name for path in again] == [
        f"{name}.{kind}" for name in figures.PLOTS for kind in ("png", "svg")
    ]
    for path in again:
        assert path.read_bytes() == (rebuilt / "figures" / path.name).read_bytes()
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in again[::2])


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
        (1.342, "how much of that is the model and how much the bound is not known"),
        (
            1.100,
            "MDLM is the better model of this text, even its bound lies 0.113 below",
        ),
        (1.216, "a difference that the draws do not resolve"),
    ],
)
def test_a_bound_can_only_prove_a_model_better(nats, claim, results):
    """A bound above an exact value says nothing of which model is better."""
    mdlm = family("MDLM", True, nats, 1)
    ar, _, _ = sources(results)
    other = sources({"families": {"mdlm": mdlm}})[0]
    text = findings.likelihood(ar, other, results)
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
    assert "more like the corpus's is not resolved" in found["Openings"]
    assert not re.search("is (higher|nearer)", found["Openings"] + found["Fluency"])
    apart = {f.title: f.text for f in findings.findings(make_results())}
    assert "MDLM's first words are distributed more like" in apart["Openings"]
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
        "AR's loss is lowest at step 2,000 of 3,000 and ends 0.100 higher."
    )
    assert "which the draws do not resolve" in findings.convergence(mdlm)
    assert findings.convergence(mdlm).startswith("MDLM's bound")


def test_verdicts_say_what_the_intervals_say(results):
    """Higher or not resolved; a bound above an exact value proves nothing."""
    ar, mdlm, _ = sources(results)
    found = {
        verdict.row.name: verdict.words
        for verdict in verdicts.judged(results, ar, mdlm)
    }
    assert found["nats_per_token"] == "not resolved (MDLM is a bound)"
    assert found["distinct_4"] == "MDLM > AR"
    assert found["longest_copied_run"] == "AR > MDLM"
    assert found["known_word_share"] == "not resolved"
    assert found["tokens_per_second"] == "not resolved (one run)"
    (scored,) = (
        row for row in verdicts.verdicts(results).rows if row[1] == "Likelihood"
    )
    assert scored[2:4] == ("1.213", "≤ 1.342 ± 0.004 (16 draws)")
    results = {**results, "differences": {}}
    found = {v.row.name: v.words for v in verdicts.judged(results, ar, mdlm)}
    assert found["nats_per_token"] == "not resolved (no common windows)"
    text = verdicts.in_words(results, ar, mdlm)
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
    assert "AR's five-word openings cannot be told from the corpus's" in text
    assert "MDLM's five-word openings differ from the corpus's" in text


def test_a_bound_below_an_exact_value_is_resolved(results):
    """MDLM's bound 0.2 below AR's exact value: AR needs more, whatever the slack."""
    gap = {"value": -0.2, "low": -0.21, "high": -0.19}
    results = {**results, "differences": {"nats_per_token": {"mdlm": gap}}}
    ar, mdlm, _ = sources(results)
    found = {v.row.name: v.words for v in verdicts.judged(results, ar, mdlm)}
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
    found = {v.row.name: v.over_seeds for v in verdicts.judged(results, ar, mdlm)}
    assert found["tokens_per_second"] == "AR > MDLM"
    assert found["distinct_4"] == "not resolved"
    text = verdicts.in_words(results, ar, mdlm)
    assert "throughput resolved" in text and "3 training seeds" in text
    assert "seeds 0, 1, 2" in findings.caveat(results)
    assert len(tables.all_tables(results)["seeds"].rows) == 2


def test_report_is_rebuilt_from_results_json_alone(rebuilt, html):
    """The page is that of the numbers in memory; links in Markdown have files."""
    assert (rebuilt / "report.html").read_text() == html
    links = re.findall(r"\]\((figures/[^)]+)\)", (rebuilt / "report.md").read_text())
    assert len(links) == len(figures.PLOTS)
    assert all((rebuilt / link).is_file() for link in links)
    assert (rebuilt / "player.html").read_text() == player_page(make_results())
    assert not list(rebuilt.glob(".*"))


def test_several_runs_are_laid_over_each_other(tmp_path, monkeypatch, results):
    """A curve and a column for each run; colours are the family's, dashes the run's."""
    other = make_results()
    other["seed"] = other["config"]["seed"] = 1
    other["families"]["ar"]["likelihood"]["nats_per_token"] = 1.111
    for name, found in (("a", results), ("b", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(found))
    flags = SimpleNamespace(
        workdir=[str(tmp_path / name) for name in "ab"],
        out=str(tmp_path / "both"),
        player=False,
    )
    monkeypatch.setattr(report.flags, "FLAGS", flags)
    report.main()
    page = Page((tmp_path / "both" / "report.html").read_text())
    assert page.open == []
    assert {"AR, a", "AR, b", "MDLM, a", "MDLM, b", "Held-out text"} <= {
        *page.texts("th"),
    }
    assert {"1.213", "1.111"} <= set(page.texts("td"))
    rows = overlay.differing_settings({"a": results, "b": other}).rows
    assert rows == [("seed", "0", "1")]
    assert len(list((tmp_path / "both" / "figures").iterdir())) == 8
    merged = overlay.merge({"a": results, "b": other})
    (axes,) = figures.learning_curves(merged).axes
    looks = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
    (ar, mdlm, _) = sources(results)
    assert looks[:4] == [
        (ar.color, "-"),
        (ar.color, "--"),
        (mdlm.color, "-"),
        (mdlm.color, "--"),
    ]
    assert len(axes.lines) == 5  # and the entropy that both runs share


def test_runs_on_other_text_are_not_compared_in_nats(results):
    """What is not common to all is left out, and the page says so."""
    other = make_results()
    other["corpus"]["fingerprint"] = "other"
    other["human"]["num_stories"] = 3
    runs = {"a": results, "b": other}
    assert "must not be compared" in overlay.overlay_html(runs)
    merged = overlay.merge(runs)
    assert "human" not in merged and not merged["corpus"]
    assert "must not be compared" not in overlay.overlay_html(
        {"a": results, "b": results}
    )


def test_names_of_runs_are_what_tells_them_apart():
    """runs/x/seed0 and runs/x/seed1 are seed0 and seed1."""
    assert report.short_names(["runs/x/0", "runs/x/1", "runs/y"]) == ["x/0", "x/1", "y"]
    assert report.short_names(["runs/tiny", "runs/tiny/seed_1"]) == ["tiny", "seed_1"]


def test_results_that_cannot_be_read_name_the_file_and_the_way_out(
    tmp_path, monkeypatch
):
    """Missing, broken or foreign results.json: one sentence, and nothing is written."""
    monkeypatch.setattr(report.flags, "FLAGS", SimpleNamespace(workdir=[str(tmp_path)]))
    path = tmp_path / "results.json"
    with pytest.raises(ValueError, match="cannot be read.*experiments.compare"):
        report.main()
    for text, reason in (("{", "not JSON"), ("[]", "format"), ('{"format": 0}', "0")):
        path.write_text(text)
        with pytest.raises(ValueError, match=reason):
            report.main()
    monkeypatch.setattr(report.flags, "FLAGS", SimpleNamespace(workdir=[]))
    with pytest.raises(ValueError, match="--workdir"):
        report.main()
    assert [child.name for child in tmp_path.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    """The page is replaced whole or not at all."""

    def fail(*_):
        raise RuntimeError("no text")

    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr(figures, "write_figures", lambda *_: [])
    monkeypatch.setattr(page_module, "draw", fail)
    with pytest.raises(RuntimeError, match="no text"):
        write_report(make_results(), tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"
