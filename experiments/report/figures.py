"""The figures of a report: pure functions of results.json with reproducible bytes."""

import functools
import math
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.report import frontier, sampler_likelihood
from experiments.report.format import (
    DIVERSITY,
    FLUENCY,
    OPENINGS,
    Metric,
    Number,
    is_number,
)
from experiments.report.learning_curves import CURVE_CAPTION as CURVE_CAPTION
from experiments.report.learning_curves import has_curve, learning_curves
from experiments.report.series import (
    Results,
    Source,
    families,
    held_out,
    sources,
)
from experiments.report.style import (
    INK,
    WIDTH,
    legend_above,
    only_vertical_grid,
    render,
    styled,
)


class Plot(NamedTuple):
    """A figure of the report.

    Attributes:
      draw: results -> Figure.
      title: title of the figure.
      caption: explanation below the figure.
      has_data: results -> whether there is anything to draw.
    """

    draw: Callable[[Results], Figure]
    title: str
    caption: str
    has_data: Callable[[Results], bool]


def plots(results: Results) -> dict[str, Plot]:
    """The figures for which these results have data, by file name."""
    return {name: plot for name, plot in PLOTS.items() if plot.has_data(results)}


def write_figures(
    results: Results, directory: str | Path, chosen: Mapping[str, Plot] | None = None
) -> list[Path]:
    """Saves figures as PNG and SVG; the same results give the same bytes.

    Args:
      results: content of results.json.
      directory: output directory.
      chosen: figures by file name; default: all for which the results have data.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, plot in (chosen or plots(results)).items():
        figure = plot.draw(results)
        for kind in ("png", "svg"):
            paths.append(directory / f"{name}.{kind}")
            paths[-1].write_bytes(render(figure, kind))
    return paths


@styled
def speed(results: Results) -> Figure:
    """Tokens per second of every family, in training and in sampling."""
    rates = _throughputs(results)
    num_rows = max(map(len, rates.values()))
    height = len(rates) * (0.62 + 0.3 * num_rows)
    figure = Figure((WIDTH, height), layout="constrained")
    grid = figure.subplots(len(rates), 1, squeeze=False)
    for (name, rows), axes in zip(rates.items(), grid.flat, strict=True):
        bars = axes.barh(
            [family.label for family, _ in rows],
            [rate for _, rate in rows],
            color=[family.color for family, _ in rows],
            height=0.62,
        )
        axes.bar_label(bars, [f"{rate:,.0f}" for _, rate in rows], padding=4)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.18 * max(rate for _, rate in rows))
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
        axes.set_title(f"{name}, tokens per second", loc="left", fontsize=9)
        only_vertical_grid(axes)
        axes.grid(False)  # each bar has its number as a label
    return figure


@styled
def openings(results: Results) -> Figure:
    """Shares of the ten most frequent five-word openings of held-out text, by source.

    results.json holds the ten most frequent openings of each source. If an opening is
    not among the ten of a source, its share there is not known, but it is at most the
    share of the tenth: a hollow bar shows this upper limit.
    """
    rows = [held_out(results), *families(results)]
    ranked = held_out(results).numbers.get("opening_shares") or []
    texts = [text for text, _ in ranked[:10]]
    pitch = len(rows) + 1.7  # bars, the line of text above them, and a gap
    figure = Figure((WIDTH, 0.9 + 0.135 * pitch * len(texts)), layout="constrained")
    axes = figure.subplots()
    handles, has_hollow, largest = [], False, 0.01
    for j, source in enumerate(rows):
        shares = source.numbers.get("opening_shares") or []
        if not shares:
            continue
        known = dict(map(tuple, shares))
        limit = _largest_unknown_share(list(known.values()))
        handles.append(Patch(color=source.color, label=source.label))
        for i, text in enumerate(texts):
            y, share = i * pitch + j + 1, known.get(text, limit)
            largest = max(largest, share)
            if text in known:
                axes.barh(y, share, color=source.color, height=0.86)
            elif limit > 0.0:
                has_hollow = True
                axes.barh(y, share, 0.7, fill=False, ec=source.color, ls=":", lw=1.3)
    for i, text in enumerate(texts):
        label = f"{text} …" if len(text) <= 46 else f"{text[:46]}…"
        axes.annotate(
            label,
            (0.0, i * pitch),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            annotation_clip=False,
        )
    if has_hollow:
        label = "upper limit (not among its ten)"
        handles.append(Patch(fill=False, edgecolor=INK, linestyle=":", label=label))
    axes.set_ylim(len(texts) * pitch - 0.9, -0.9)
    axes.set_xlim(0, 1.06 * largest)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(_percent))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
    axes.set_xlabel("Share of texts with this opening")
    only_vertical_grid(axes)
    legend_above(figure, handles)
    return figure


@styled
def intervals(results: Results, group: str, metrics: Mapping[str, Metric]) -> Figure:
    """Measures of a group with 95% intervals, beside those of held-out text."""
    rows = [s for s in sources(results) if s.numbers.get(group)]
    names = [name for name in metrics if any(_value(s, group, name) for s in rows)]
    num_rows = math.ceil(len(names) / 2)
    height = 0.35 + num_rows * (0.55 + 0.14 * len(rows))
    figure = Figure((WIDTH, height), layout=ConstrainedLayoutEngine(wspace=0.1))
    grid = figure.subplots(max(num_rows, 1), 2, squeeze=False)
    for name, axes in zip(names, grid.flat, strict=False):
        for i, source in enumerate(rows):
            estimate = _value(source, group, name)
            if not estimate:
                continue
            low, high = (estimate.get(k, estimate["value"]) for k in ("low", "high"))
            axes.plot([low, high], [i, i], color=source.color)
            axes.plot(estimate["value"], i, source.marker, color=source.color, ms=5)
            if source.name == "human":
                axes.axvspan(low, high, color=source.color, alpha=0.15, linewidth=0)
        title, *_ = metrics[name].label.partition(" / ")
        axes.set_title(textwrap.fill(title, 31), loc="left", fontsize=8.5)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks([])
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(3))
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))
        only_vertical_grid(axes)
    for axes in grid.flat[len(names) :]:
        axes.remove()
    marks = [
        Line2D([], [], color=s.color, marker=s.marker, label=s.label) for s in rows
    ]
    legend_above(figure, marks, ncols=3)
    return figure


def _value(source: Source, group: str, name: str) -> Mapping[str, Any] | None:
    estimate = (source.numbers.get(group) or {}).get(name) or {}
    return estimate if is_number(estimate.get("value")) else None


def _has_group(results: Results, group: str, metrics: Mapping[str, Metric]) -> bool:
    return any(_value(s, group, name) for s in sources(results) for name in metrics)


def _intervals(group: str, metrics: Mapping[str, Metric], title: str) -> Plot:
    return Plot(
        functools.partial(intervals, group=group, metrics=metrics),
        f"{title}, with 95% intervals",
        "Each panel has its own scale, which may not begin at zero. The band is the "
        "interval of held-out text.",
        functools.partial(_has_group, group=group, metrics=metrics),
    )


PLOTS = {
    **{
        f"learning_curves_{against}": Plot(
            functools.partial(learning_curves, against=against),
            f"Validation loss against {title}",
            "",
            functools.partial(has_curve, against=against),
        )
        for against, title in {
            "step": "training steps",
            "tokens": "training tokens",
            "flops": "training FLOPs",
            "seconds": "training time",
        }.items()
    },
    "speed": Plot(
        speed,
        "Speed of training and of sampling",
        "Tokens per second of training steps, without evaluation and saving, and of "
        "sampling whole windows in batches. One run of each family: no interval.",
        lambda results: any(_throughputs(results).values()),
    ),
    "openings": Plot(
        openings,
        "The ten most frequent openings of held-out text",
        "The share of texts that begin with these five words. A hollow bar is an upper "
        "limit: the opening is not among the ten most frequent ones of that model.",
        lambda results: bool(held_out(results).numbers.get("opening_shares")),
    ),
    "openings_intervals": _intervals("openings", OPENINGS, "Openings"),
    "fluency_intervals": _intervals("fluency", FLUENCY, "Fluency"),
    "diversity": Plot(
        functools.partial(intervals, group="diversity", metrics=DIVERSITY),
        "Variety, with 95% intervals",
        "Each panel has its own scale, which may not begin at zero. The band is the "
        "interval of held-out text, which is the target: more variety than that is not "
        "better. Distinct first words and openings are divided by the number of texts.",
        functools.partial(_has_group, group="diversity", metrics=DIVERSITY),
    ),
    "frontier": Plot(
        frontier.frontier, frontier.TITLE, frontier.CAPTION, frontier.has_frontier
    ),
    "sampler_likelihood": Plot(
        sampler_likelihood.figure,
        sampler_likelihood.TITLE,
        sampler_likelihood.CAPTION,
        lambda results: bool(sampler_likelihood.points(results)),
    ),
}


def _largest_unknown_share(shares: list[Number]) -> Number:
    """Upper limit of a share outside the top ten: the tenth share, or the remainder."""
    return 0.0 if len(shares) < 10 else max(0.0, min(*shares, 1.0 - sum(shares)))


def _percent(share: Number, _: Number | None) -> str:
    return f"{100 * share:.3g}%"


def _throughputs(results: Results) -> dict[str, list[tuple[Source, Number]]]:
    """Tokens per second of the families in training and in sampling, where known."""
    found = {}
    for name, group in (("Training", "training"), ("Sampling", "sampling")):
        rates = [
            (family, (family.numbers.get(group) or {}).get("tokens_per_second"))
            for family in families(results)
        ]
        found[name] = [(family, rate) for family, rate in rates if rate]
    return {name: rows for name, rows in found.items() if rows}
