"""One page for several runs: common figures, and tables with a column for each run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.report import figures, tables
from experiments.report.figures import Plot
from experiments.report.format import COPYING, DIVERSITY, FLUENCY, OPENINGS, plain
from experiments.report.series import Results
from experiments.report.table import Table
from experiments.report.templating import draw, render_page
from lm_jax.files import whole_file

# Dash styles, one for each run; the colour of a curve shows its family.
LINES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))


def write_overlay(runs: Mapping[str, Results], directory: str | Path) -> Path:
    """Writes report.html and figures/ and returns the path of the page.

    Args:
      runs: results by short name of the run.
      directory: output directory.
    """
    directory = Path(directory)
    merged = merge(runs)
    figures.write_figures(merged, directory / "figures", _plots(merged))
    with whole_file(directory / "report.html") as part:
        part.write_text(overlay_html(runs), encoding="utf-8")
    return directory / "report.html"


def overlay_html(runs: Mapping[str, Results]) -> str:
    """The page, as one self-contained file."""
    merged = merge(runs)
    shown = [
        differing_settings(runs),
        tables.likelihood(merged),
        tables.costs(merged),
        tables.metrics(merged, "openings", OPENINGS, "Openings"),
        tables.metrics(merged, "diversity", DIVERSITY, "Variety"),
        tables.metrics(merged, "fluency", FLUENCY | COPYING, "Fluency and copying"),
    ]
    return render_page(
        "overlay.html",
        title=f"{len(runs)} runs: {', '.join(runs)}",
        warning=warning(runs),
        curve_caption=figures.CURVE_CAPTION,
        figures=[draw(name, plot, merged) for name, plot in _plots(merged).items()],
        tables=[table for table in shown if table.rows],
        commands={name: results.get("command", "") for name, results in runs.items()},
    )


def merge(runs: Mapping[str, Results]) -> Results:
    """Results with the families of all runs, ordered by family.

    Entries that differ between runs, such as the entropy or the human row, are left
    out.
    """
    names = dict.fromkeys(name for found in runs.values() for name in found["families"])
    families = {}
    for name in names:
        for i, (run, found) in enumerate(runs.items()):
            if name in found["families"]:
                numbers = found["families"][name]
                families[f"{name}@{run}"] = {
                    **numbers,
                    "label": f"{numbers.get('label', name)}, {run}",
                    "family": name,
                    "line": LINES[i % len(LINES)],
                }
    first = next(iter(runs.values()))
    shared = {
        name: first.get(name)
        for name in ("human", "corpus", "config")
        if all(found.get(name) == first.get(name) for found in runs.values())
    }
    draws = {tables.curve_draws(found) for found in runs.values()}
    if len(draws) == 1:
        shared["config"] = {"train": {"eval_draws": draws.pop()}}
    return {"families": families, "corpus": {}, **shared}


def differing_settings(runs: Mapping[str, Results]) -> Table:
    """Table of the config fields that differ between the runs."""
    flat = [_flat(found.get("config") or {}) for found in runs.values()]
    names = dict.fromkeys(name for fields in flat for name in fields)
    rows = []
    for name in names:
        values = [fields.get(name) for fields in flat]
        if any(value != values[0] for value in values):
            rows.append((name, *map(plain, values)))
    header = ("Setting", *runs)
    return Table("settings", "Settings that differ between the runs", header, rows)


def warning(runs: Mapping[str, Results]) -> str:
    """A warning if the runs were evaluated on different tokens, else ""."""
    tested = {
        tuple(
            (found.get("corpus") or {}).get(name)
            for name in ("fingerprint", "num_valid_tokens")
        )
        for found in runs.values()
    }
    if len(tested) == 1:
        return ""
    return (
        "These runs were evaluated on different text or with different tokenizers: "
        "nats per token must not be compared between runs."
    )


def _plots(merged: Results) -> dict[str, Plot]:
    found = figures.plots(merged).items()
    return {name: plot for name, plot in found if name.startswith("learning_curves_")}


def _flat(fields: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found = {}
    for name, value in fields.items():
        is_section = isinstance(value, Mapping)
        found |= _flat(value, f"{path}{name}.") if is_section else {path + name: value}
    return found
