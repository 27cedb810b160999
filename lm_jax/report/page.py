"""One self-contained page, its twin in Markdown, and their figures."""

import base64
import hashlib
import itertools
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from lm_jax.report import figures, findings, published, tables
from lm_jax.report.cells import MISSING
from lm_jax.report.sources import Results, Source, families, sources
from lm_jax.report.style import INK, render

SECTIONS = {
    "findings": "Findings",
    "resolved": "Resolved or not",
    "curves": "Learning curves",
    "likelihood": "Likelihood",
    "training": "Training speed",
    "openings": "Openings",
    "variety": "Variety",
    "fluency": "Fluency",
    "samples": "Sample stories",
    "run": "The run",
}
MARKDOWN_STORIES = 3  # of each source; the page has them all


class Story(NamedTuple):
    """A sample story on the page."""

    source: Source
    column: int
    number: int
    text: str


class Drawing(NamedTuple):
    """A figure on the page."""

    svg: Markup
    title: str
    caption: str


def write_report(results: Results, directory: str | Path) -> Path:
    """Writes report.html, report.md and figures/ and returns the path of the page.

    Args:
      results: of a run, as in its results.json.
      directory: where they go; the page needs nothing beside itself, report.md shows
        the figures that are saved next to it.
    """
    directory = Path(directory)
    figures.write_figures(results, directory / "figures")
    _replace(directory / "report.md", to_markdown(results))
    _replace(directory / "report.html", to_html(results))
    return directory / "report.html"


def to_html(results: Results) -> str:
    """The page: text, style, script and figures in one file that asks for no other."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"sha256": _sha256, "set_aside": _set_aside}
    source = resources.files("lm_jax.report").joinpath("page.html").read_text("utf-8")
    return environment.from_string(source).render(
        title=title(results),
        subtitle=subtitle(results),
        sections=SECTIONS.items(),
        findings=findings.findings(results),
        caveat=findings.caveat(results),
        figures=_drawings(results),
        tables=tables.all_tables(results),
        settings=tables.settings(results),
        sources=[source for source in sources(results) if _samples(source)],
        stories=_stories(results),
        command=results.get("command", MISSING),
        curve_caption=figures.CURVE_CAPTION,
        published=published,
    )


def to_markdown(results: Results) -> str:
    """The page's numbers as Markdown, with links to figures/*.png."""
    table = {k: tables.to_markdown(t) for k, t in tables.all_tables(results).items()}
    plots = {
        name: f"![{plot.title}](figures/{name}.png)\n\n{plot.caption}".strip()
        for name, plot in figures.plots(results).items()
    }
    curves = [name for name in plots if name.startswith("learning_curves")]

    def details(*names: str) -> list[str]:
        return [table[name] for name in names if name in table]

    claims = "\n".join(
        f"- **{claim.title}.** {tables.escape_markdown(claim.text)}"
        for claim in findings.findings(results)
    )
    stories = [
        f"{story.source.label}, story {story.number}:\n\n{_fence(story.text)}"
        for story in _stories(results)
        if story.number <= MARKDOWN_STORIES
    ]
    parts = {
        "findings": [claims, tables.escape_markdown(findings.caveat(results))],
        "resolved": [table["verdicts"]],
        "curves": [
            figures.CURVE_CAPTION,
            *(plots[name] for name in curves),
            table["curve"],
        ],
        "likelihood": [
            table["likelihood"],
            *details("by_draws", "orders", "calibration"),
            table["published_loss"],
        ],
        "training": [
            table["training"],
            plots.get("throughput"),
            table["published_training"],
        ],
        "openings": [
            plots.get("openings"),
            table["openings"],
            *details("openings_by_length"),
        ],
        "variety": [
            table["diversity"],
            table["published_diversity"],
            plots.get("diversity"),
            table["variety"],
            plots.get("frontier"),
            *details("frontier"),
        ],
        "fluency": [table["fluency"], *details("grammar")],
        "samples": [table["sampling"], *stories],
        "run": [
            _fence(str(results.get("command", MISSING))),
            *details("seeds"),
            *map(tables.to_markdown, tables.settings(results)),
        ],
    }
    blocks = [
        f"# {tables.escape_markdown(title(results))}",
        tables.escape_markdown(subtitle(results)),
    ]
    for anchor, heading in SECTIONS.items():
        blocks += [f"## {heading}", *(part for part in parts[anchor] if part)]
    return "\n\n".join(blocks) + "\n"


def title(results: Results) -> str:
    """The families and the corpus."""
    *labels, last = [family.label for family in families(results)]
    labels = f"{', '.join(labels)} and {last}" if labels else last
    corpus = results.get("corpus", {}).get("name")
    return f"{labels} on {corpus}" if corpus else labels


def subtitle(results: Results) -> str:
    """How much text they learnt from, and how much they were tested on."""
    corpus = results.get("corpus", {})
    parts = []
    for split, verb in (("train", "Trained on"), ("valid", "tested on")):
        counts = [corpus.get(f"num_{split}_{unit}") for unit in ("stories", "tokens")]
        if None not in counts:
            parts.append(f"{verb} {counts[0]:,} stories ({counts[1]:,} tokens)")
    return ", ".join([*parts, f"seed {results.get('seed', MISSING)}"]) + "."


def _stories(results: Results) -> list[Story]:
    """First stories of every source, then second ones, and so on: side by side."""
    shown = [source for source in sources(results) if _samples(source)]
    columns = [
        [Story(source, i, j, text) for j, text in enumerate(_samples(source), 1)]
        for i, source in enumerate(shown, 1)
    ]
    rows = itertools.zip_longest(*columns)
    return [story for row in rows for story in row if story is not None]


def _samples(source: Source) -> list[str]:
    return source.numbers.get("samples") or []


def _drawings(results: Results) -> dict[str, Drawing]:
    return {
        name: Drawing(
            _inline(render(plot.draw(results), "svg").decode(), name, plot.title),
            plot.title,
            plot.caption,
        )
        for name, plot in figures.plots(results).items()
    }


def _inline(svg: str, name: str, title: str) -> Markup:
    """The SVG as part of the page: text in the page's colour, ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href").replace(INK, "currentColor")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", svg)
    label = f'<svg role="img" aria-labelledby="{name}-title"'
    heading = f'<title id="{name}-title">{escape(title)}</title>'
    head, body = svg.split(">", 1)
    return Markup(f"{head.replace('<svg', label, 1)}>{heading}{body}")


def _set_aside(cell: str) -> Markup:
    """The cell, with its interval or number of draws on a line of its own."""
    match = re.fullmatch(r"([^\[(]*\d) ([\[(].*)", cell)
    if not match:
        return escape(cell)
    return Markup('{} <span class="aside">{}</span>').format(*match.groups())


def _sha256(text: Any) -> str:
    """The name under which a content security policy admits this script alone."""
    digest = hashlib.sha256(str(text).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _fence(text: str) -> str:
    """A code block that no text can close: its fence is longer than any in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _replace(path: Path, text: str) -> None:
    """Writes the whole file or leaves the one that was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
