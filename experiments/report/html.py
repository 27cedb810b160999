"""Writes the report: a self-contained HTML page, Markdown, and figures."""

import itertools
import re
from pathlib import Path
from typing import NamedTuple

from experiments.report import figures, findings, published, table, tables, tiles
from experiments.report.format import MISSING
from experiments.report.player import scenes
from experiments.report.series import Results, Source, families, held_out, sources
from experiments.report.templating import css_color, draw, render_page
from lm_jax.files import whole_file

SECTIONS = {
    "answers": "At a glance",
    "writing": "Sampling, step by step",
    "curves": "Learning curves",
    "findings": "Findings",
    "likelihood": "Likelihood",
    "speed": "Speed",
    "openings": "Openings",
    "variety": "Variety",
    "fluency": "Fluency",
    "order": "Order of sampling",
    "samples": "Samples",
    "resolved": "Resolved and unresolved differences",
    "run": "Settings of the run",
}
MARKDOWN_SAMPLES = 3  # samples of each source in report.md; the page has all
OWN_SETTINGS = "the run's own"


class Story(NamedTuple):
    """A text on the page: a sample or a held-out document.

    Attributes:
      source: source of the text.
      column: column of the source, from 1.
      number: number of the text within its source and settings, from 1.
      sampler: the setting that differs from the run's own; "" for held-out text.
      text: the text itself.
    """

    source: Source
    column: int
    number: int
    sampler: str
    text: str


def write_report(results: Results, directory: str | Path) -> Path:
    """Writes report.html, report.md and figures/; returns the path of report.html.

    Args:
      results: content of results.json.
      directory: output directory. report.html is self-contained; report.md links to
        the files in figures/.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    figures.write_figures(results, directory / "figures")
    _replace(directory / "report.md", to_markdown(results))
    _replace(directory / "report.html", to_html(results))
    return directory / "report.html"


def to_html(results: Results) -> str:
    """report.html: text, style, script and figures in one self-contained file."""
    stories = _stories(results)
    plots = figures.plots(results).items()
    return render_page(
        "page.html",
        title=title(results),
        subtitle=subtitle(results),
        sections=_sections(results),
        tiles=tiles.tiles(results),
        findings=findings.findings(results),
        caveat=findings.caveat(results),
        scenes=scenes(results),
        figures={name: draw(name, plot, results) for name, plot in plots},
        tables=tables.all_tables(results),
        settings=tables.settings(results),
        sources=[(s, css_color(s.color)) for s in sources(results) if _samples(s)],
        samplers=list(dict.fromkeys(s.sampler for s in stories if s.sampler)),
        stories=[(story, css_color(story.source.color)) for story in stories],
        own_settings=OWN_SETTINGS,
        command=results.get("command", MISSING),
        curve_caption=figures.CURVE_CAPTION,
        published=published,
    )


def to_markdown(results: Results) -> str:
    """report.md: the same numbers as Markdown, with links to figures/*.png."""
    markdown = {
        name: table.to_markdown(content) if content.rows else ""
        for name, content in tables.all_tables(results).items()
    }
    plots = {
        name: f"![{plot.title}](figures/{name}.png)\n\n{plot.caption}".strip()
        for name, plot in figures.plots(results).items()
    }
    curves = [name for name in plots if name.startswith("learning_curves")]

    def details(*names: str) -> list[str]:
        return [markdown[name] for name in names if name in markdown]

    claims = "\n".join(
        f"- **{claim.title}.** {table.escape_markdown(claim.text)}"
        for claim in findings.findings(results)
    )
    stories = [
        f"{story.source.label}, text {story.number}:\n\n{_fence(story.text)}"
        for story in _stories(results)
        if story.number <= MARKDOWN_SAMPLES and story.sampler in ("", OWN_SETTINGS)
    ]
    answers = "\n".join(
        f"- **{tile.title}.** "
        + table.escape_markdown(f"{tile.answer}; {tile.state}. {tile.values}.")
        for tile in tiles.tiles(results)
    )
    parts = {
        "answers": [answers, table.escape_markdown(findings.caveat(results))],
        "findings": [claims],
        "curves": [
            figures.CURVE_CAPTION,
            *(plots[name] for name in curves),
            markdown["curve"],
        ],
        "likelihood": [
            markdown["likelihood"],
            plots.get("sampler_likelihood"),
            *details("sampler_likelihood", "by_draws", "calibration"),
            markdown["published_loss"],
        ],
        "speed": [
            markdown["training"],
            plots.get("speed"),
            markdown["published_training"],
            markdown["sampling"],
        ],
        "openings": [
            plots.get("openings_intervals"),
            plots.get("openings"),
            markdown["openings"],
            *details("openings_by_length"),
        ],
        "variety": [
            markdown["diversity"],
            markdown["published_diversity"],
            plots.get("diversity"),
            markdown["variety"],
        ],
        "fluency": [
            markdown["fluency"],
            plots.get("fluency_intervals"),
            *details("grammar"),
            plots.get("frontier"),
            *details("frontier"),
        ],
        "order": details("order"),
        "samples": [*details("samplers"), *stories],
        "resolved": [markdown["verdicts"]],
        "run": [
            _fence(str(results.get("command", MISSING))),
            *details("seeds"),
            *map(table.to_markdown, tables.settings(results)),
        ],
    }
    blocks = [
        f"# {table.escape_markdown(title(results))}",
        table.escape_markdown(subtitle(results)),
    ]
    for anchor, heading in _sections(results).items():
        shown = [part for part in parts.get(anchor, []) if part]
        blocks += [f"## {heading}", *shown] if shown else []
    return "\n\n".join(blocks) + "\n"


def title(results: Results) -> str:
    """Title: the families, and the corpus with its edition."""
    *labels, last = [family.label for family in families(results)]
    labels = f"{', '.join(labels)} and {last}" if labels else last
    about = results.get("corpus", {})
    corpus, edition = about.get("name"), about.get("edition")
    corpus = f"{corpus}, {edition} edition" if edition else corpus
    return f"{labels} on {corpus}" if corpus else labels


def subtitle(results: Results) -> str:
    """Subtitle: sizes of the training and validation text, and the seed."""
    corpus = results.get("corpus", {})
    parts = []
    for split, verb in (("train", "Trained on"), ("valid", "evaluated on")):
        counts = [corpus.get(f"num_{split}_{unit}") for unit in ("stories", "tokens")]
        if None not in counts:
            parts.append(f"{verb} {counts[0]:,} documents ({counts[1]:,} tokens)")
    return ", ".join([*parts, f"seed {results.get('seed', MISSING)}"]) + "."


def _sections(results: Results) -> dict[str, str]:
    """The sections for which these results have content."""
    found = {name for name, t in tables.all_tables(results).items() if t.rows}
    found |= figures.plots(results).keys()
    is_full = {
        "writing": bool(scenes(results)),
        "curves": "curve" in found,
        "openings": "openings" in found,
        "fluency": "fluency" in found,
        "order": "order" in found,
        "samples": any(map(_samples, sources(results))),
        "resolved": "verdicts" in found,
    }
    return {k: heading for k, heading in SECTIONS.items() if is_full.get(k, True)}


def _stories(results: Results) -> list[Story]:
    """The first text of every source, then the second ones, and so on.

    Texts of other sampler settings follow those of the run's own settings.
    """
    shown = [source for source in sources(results) if _samples(source)]
    human = held_out(results).name
    other = (results.get("frontier") or {}).get("families") or {}
    columns = []
    for i, source in enumerate(shown, 1):
        own = "" if source.name == human else OWN_SETTINGS
        drawn = [(own, _samples(source))]
        drawn += [
            (point["setting"], point.get("samples") or [])
            for point in other.get(source.name, [])
            if point["setting"] != "base"
        ]
        columns.append(
            [
                Story(source, i, j, sampler, text)
                for sampler, texts in drawn
                for j, text in enumerate(texts, 1)
            ]
        )
    rows = itertools.zip_longest(*columns)
    return [story for row in rows for story in row if story is not None]


def _samples(source: Source) -> list[str]:
    return source.numbers.get("samples") or []


def _fence(text: str) -> str:
    """A code block whose fence is longer than any fence in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _replace(path: Path, text: str) -> None:
    """Replaces the file atomically."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
