"""The report: text stays text, nothing is fetched, and pages are written whole."""

import copy
import json
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest
from made_up_results import HOSTILE, Page, make_results

from experiments.report import __main__ as report_main
from experiments.report import (
    detail_tables,
    figures,
    overlay,
    published,
    table,
)
from experiments.report import html as page_module
from experiments.report.html import to_html, to_markdown, write_report
from experiments.report.player import player_page
from experiments.report.series import Results, sources
from experiments.report.templating import css_color


def given_flags(workdirs, **given) -> SimpleNamespace:
    """The flags of the command, as they are without any and as they are given."""
    defaults = {"out": "", "player": False, "gif": ""}
    return SimpleNamespace(workdir=list(map(str, workdirs)), **(defaults | given))


def test_a_picture_is_of_one_run_and_a_gif(monkeypatch, tmp_path):
    """Refused before any report is written."""
    for workdirs, gif, message in (
        ([tmp_path, tmp_path], "story.gif", "pass one --workdir"),
        ([tmp_path], "story.mp4", "pass --gif=story.gif"),
    ):
        flags = given_flags(workdirs, gif=gif)
        monkeypatch.setattr(report_main.flags, "FLAGS", flags)
        with pytest.raises(ValueError, match=message):
            report_main.main()


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
            report_main.flags,
            "FLAGS",
            given_flags([workdir], player=True),
        )
        report_main.main()
    return workdir


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
    """One file under 5 MB: the only address in it is a link to the paper."""
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
    """A script in a sample is text and does not run; the policy allows only ours."""
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
    marks = [attrs for attrs in drawings if attrs.get("class") == "mark"]
    assert len(drawings) == len(figures.PLOTS) + len(marks) and len(marks) == 3
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
    """Cells keep their column, and no sample closes its code block."""
    assert f"```text\n{HOSTILE}\n```" in markdown
    assert "````text\nA | B `c` *d* ``` e.\n````" in markdown
    assert table.escape_markdown("a|b `c` <d> [e](f)\n& g_") == (
        r"a\|b \`c\` \<d\> [e]\(f) &amp; g\_"
    )
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    blocks = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(rows) > 40
    for block in blocks:
        widths = {len(re.split(r"(?<!\\)\|", row)) for row in block.splitlines()}
        assert len(widths) == 1, block


def test_every_source_stands_in_every_comparison(html, markdown):
    """Both families and held-out text, and the paper's numbers marked as such."""
    for text in (html, markdown):
        for label in ("AR", "MDLM", "Held-out text"):
            assert label in text
        warning = "published in the paper (other model size, other data split"
        assert text.count(warning) == 3
        assert text.count(published.CITATION) >= 3


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
    flags = given_flags([tmp_path / "a", tmp_path / "b"], out=str(tmp_path / "both"))
    monkeypatch.setattr(report_main.flags, "FLAGS", flags)
    report_main.main()
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
    assert report_main.short_names(["runs/x/0", "runs/x/1", "runs/y"]) == [
        "x/0",
        "x/1",
        "y",
    ]
    assert report_main.short_names(["runs/tiny", "runs/tiny/seed_1"]) == [
        "tiny",
        "seed_1",
    ]


def test_results_that_cannot_be_read_name_the_file_and_the_way_out(
    tmp_path, monkeypatch
):
    """Missing, broken or foreign results.json: one sentence, and nothing is written."""
    monkeypatch.setattr(report_main.flags, "FLAGS", given_flags([tmp_path]))
    path = tmp_path / "results.json"
    with pytest.raises(ValueError, match="cannot be read.*experiments.compare"):
        report_main.main()
    for text, reason in (("{", "not JSON"), ("[]", "format"), ('{"format": 0}', "0")):
        path.write_text(text)
        with pytest.raises(ValueError, match=reason):
            report_main.main()
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


def test_a_negative_divergence_has_its_reason():
    """A true divergence is never negative: the note says why this one is."""
    results = make_results()
    for name, cause in (
        ("ar", "of sampling noise"),
        ("mdlm", "of the gap of the bound"),
    ):
        changed = copy.deepcopy(results)
        found = {"value": -2.81, "low": -3.0, "high": -2.5}
        changed["families"][name]["grammar"]["backward_kl_per_story"] = found
        label = changed["families"][name]["label"]
        note = detail_tables.grammar(changed).note
        assert f"{label}'s backward divergence" in note and cause in note
    assert "never negative" not in detail_tables.grammar(results).note


def test_the_title_names_the_edition_of_the_corpus(results):
    """The paper's TinyStories is the first edition, and not all of it is by GPT-4."""
    changed = copy.deepcopy(results)
    changed["corpus"] |= {"name": "tinystories", "edition": "first"}
    assert page_module.title(changed).endswith("on tinystories, first edition")
    assert "# AR and MDLM on tinystories, first edition" in to_markdown(changed)
