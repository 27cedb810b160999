"""The figures of a report: pure functions of results.json, bit for bit repeatable."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lm_jax.evaluation.intervals import Z_95
from lm_jax.report import frontier
from lm_jax.report.cells import DIVERSITY, Number, is_number
from lm_jax.report.sources import (
    Results,
    Source,
    families,
    held_out,
    source_entropy,
    sources,
)
from lm_jax.report.style import (
    INK,
    WIDTH,
    legend_above,
    only_vertical_grid,
    render,
    styled,
)
from lm_jax.report.tables import curve_draws


class Plot(NamedTuple):
    """A figure of the report.

    Attributes:
      draw: results -> Figure.
      title, caption: what it shows, and how to read it.
      has_data: results -> whether there is anything to draw.
    """

    draw: Callable[[Results], Figure]
    title: str
    caption: str
    has_data: Callable[[Results], bool]


def plots(results: Results) -> dict[str, Plot]:
    """The figures that these results can fill, by file name."""
    return {name: plot for name, plot in PLOTS.items() if plot.has_data(results)}


def write_figures(results: Results, directory: str | Path) -> list[Path]:
    """Saves every figure as PNG and SVG; the same results give the same bytes."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, plot in plots(results).items():
        figure = plot.draw(results)
        for kind in ("png", "svg"):
            paths.append(directory / f"{name}.{kind}")
            paths[-1].write_bytes(render(figure, kind))
    return paths


@styled
def learning_curves(results: Results, against: str = "step") -> Figure:
    """Validation nats per token of every family, with the known entropy of the source.

    Args:
      results: of a run.
      against: "step", "tokens", "flops" or "seconds" (of training alone).
    """
    if against not in _AXES:
        raise ValueError(f"against={against!r}: choose one of {', '.join(_AXES)}")
    figure = Figure((WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    curves = [(family, _points(family, against)) for family in families(results)]
    largest = max((p[against] for _, points in curves for p in points), default=1)
    unit, label = _unit(largest, against)
    handles, lowest, highest, has_band = [], math.inf, 0.0, False
    for family, points in curves:
        x = [point[against] / unit for point in points]
        y = [point["nats_per_token"] for point in points]
        errors = [Z_95 * (point.get("standard_error") or 0.0) for point in points]
        (line,) = axes.plot(x, y, color=family.color, marker=family.marker)
        line.set_markevery(max(1, len(x) // 12))
        line.set_label(f"{family.label} (≤ bound)" if family.is_bound else family.label)
        handles.append(line)
        if any(errors):
            has_band = True
            low = [value - error for value, error in zip(y, errors, strict=True)]
            high = [value + error for value, error in zip(y, errors, strict=True)]
            axes.fill_between(x, low, high, color=family.color, alpha=0.25, linewidth=0)
        lowest, highest = min([lowest, *y]), max([highest, *y])
    entropy = source_entropy(results)
    if has_band:
        draws = curve_draws(results)
        text = f"95% interval, {draws} draws" if draws else "95% interval"
        handles.append(Patch(color="#8b93a1", alpha=0.4, linewidth=0, label=text))
    if entropy is not None:
        line = axes.axhline(entropy, color=INK, linestyle="--", linewidth=1.2)
        line.set_label("Known entropy of the source")
        handles.append(line)
        lowest = min(lowest, entropy)
    if highest > 3.0 * lowest > 0.0:  # else the end, which matters, is pressed flat
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.10g}"))
    axes.set_xlabel(label)
    axes.set_ylabel("Validation nats per token")
    legend_above(figure, handles)
    return figure


@styled
def throughput(results: Results) -> Figure:
    """Training tokens per second of every family."""
    rows = [family for family in families(results) if _speed(family.numbers)]
    figure = Figure((WIDTH, 0.6 + 0.38 * len(rows)), layout="constrained")
    axes = figure.subplots()
    speeds = [_speed(family.numbers) for family in rows]
    bars = axes.barh(
        [family.label for family in rows],
        speeds,
        color=[family.color for family in rows],
        height=0.62,
    )
    axes.bar_label(bars, [f"{speed:,.0f}" for speed in speeds], padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(speeds, default=1.0))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("Training tokens per second")
    only_vertical_grid(axes)
    axes.grid(False)  # the bars carry their numbers
    return figure


@styled
def openings(results: Results) -> Figure:
    """Shares of the ten commonest five-word openings of held-out text, by source.

    results.json holds the ten commonest openings of each source. Where a source has ten
    others, its share of an opening is not known, but no larger than that of its tenth:
    a hollow bar ends there.
    """
    rows = [held_out(results), *families(results)]
    ranked = held_out(results).numbers.get("opening_shares") or []
    texts = [text for text, _ in ranked[:10]]
    pitch = len(rows) + 1.7  # bars, the line of text above them, and air
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
        label = "at most (not among its ten)"
        handles.append(Patch(fill=False, edgecolor=INK, linestyle=":", label=label))
    axes.set_ylim(len(texts) * pitch - 0.9, -0.9)
    axes.set_xlim(0, 1.06 * largest)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(_percent))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
    axes.set_xlabel("Share of stories that begin so")
    only_vertical_grid(axes)
    legend_above(figure, handles)
    return figure


@styled
def diversity(results: Results) -> Figure:
    """Every measure of variety with its 95% interval, beside that of held-out text."""
    rows = [s for s in sources(results) if s.numbers.get("diversity")]
    names = [n for n in DIVERSITY if any(n in s.numbers["diversity"] for s in rows)]
    num_rows = math.ceil(len(names) / 2)
    height = 0.35 + num_rows * (0.55 + 0.14 * len(rows))
    figure = Figure((WIDTH, height), layout=ConstrainedLayoutEngine(wspace=0.1))
    grid = figure.subplots(max(num_rows, 1), 2, squeeze=False)
    for name, axes in zip(names, grid.flat, strict=False):
        for i, source in enumerate(rows):
            estimate = source.numbers["diversity"].get(name)
            if not estimate:
                continue
            low, high = (estimate.get(k, estimate["value"]) for k in ("low", "high"))
            axes.plot([low, high], [i, i], color=source.color)
            axes.plot(estimate["value"], i, source.marker, color=source.color, ms=5)
            if source.name == "human":
                axes.axvspan(low, high, color=source.color, alpha=0.15, linewidth=0)
        title, *_ = DIVERSITY[name].label.partition(" / ")
        axes.set_title(title, loc="left", fontsize=8.5)
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


_AXES = {
    "step": ("Training step", [(1, ""), (1e6, "million")]),
    "tokens": (
        "Training tokens",
        [(1, ""), (1e3, "thousand"), (1e6, "million"), (1e9, "billion")],
    ),
    "flops": (
        "Training FLOPs",
        [(1, ""), (1e9, "10⁹"), (1e12, "10¹²"), (1e15, "10¹⁵"), (1e18, "10¹⁸")],
    ),
    "seconds": ("Training time", [(1, "s"), (60, "min"), (3_600, "h")]),
}
CURVE_CAPTION = (
    "Nats per token of the validation windows that are scored while training, the same "
    "for every family. A curve marked ≤ is an upper bound, with the interval of its "
    "draws. Time and FLOPs are those of training steps alone. The scale is logarithmic "
    "where the loss falls to less than a third."
)


def _curve_plot(against: str, title: str) -> Plot:
    return Plot(
        functools.partial(learning_curves, against=against),
        f"Validation loss against {title}",
        "",
        lambda results: any(_points(f, against) for f in families(results)),
    )


PLOTS = {
    "learning_curves_step": _curve_plot("step", "training steps"),
    "learning_curves_tokens": _curve_plot("tokens", "training tokens"),
    "learning_curves_flops": _curve_plot("flops", "training FLOPs"),
    "learning_curves_seconds": _curve_plot("seconds", "training time"),
    "throughput": Plot(
        throughput,
        "Training speed",
        "Tokens per second of training steps alone: evaluation and saving are timed "
        "apart. One run of each, so no interval.",
        lambda results: any(_speed(f.numbers) for f in families(results)),
    ),
    "openings": Plot(
        openings,
        "The ten commonest openings of held-out text",
        "The share of stories that begin with these five words. A hollow bar is an "
        "upper limit: the opening is not among that model's own ten commonest.",
        lambda results: bool(held_out(results).numbers.get("opening_shares")),
    ),
    "diversity": Plot(
        diversity,
        "Variety, with 95% intervals",
        "Each panel has its own scale, which need not begin at zero. The band is the "
        "interval of held-out text, which the stories imitate: more variety than that "
        "is no merit. Distinct words and openings are divided by the stories.",
        lambda results: any(s.numbers.get("diversity") for s in sources(results)),
    ),
    "frontier": Plot(
        frontier.frontier, frontier.TITLE, frontier.CAPTION, frontier.has_frontier
    ),
}


def _unit(largest: Number, against: str) -> tuple[Number, str]:
    """The largest unit of which there are at least two, and the label of the axis."""
    label, units = _AXES[against]
    unit, name = [pair for pair in units if pair[0] == 1 or largest >= 2 * pair[0]][-1]
    return unit, f"{label} ({name})" if name else label


def _largest_unknown_share(shares: list[Number]) -> Number:
    """A share outside the ten commonest: at most the tenth, and at most the rest."""
    return 0.0 if len(shares) < 10 else max(0.0, min(*shares, 1.0 - sum(shares)))


def _percent(share: Number, _: Number | None) -> str:
    return f"{100 * share:.3g}%"


def _points(family: Source, against: str) -> list[dict[str, Any]]:
    """The points of a learning curve that have both coordinates."""
    curve = family.numbers.get("curve") or []
    return [
        point
        for point in curve
        if is_number(point.get(against)) and is_number(point.get("nats_per_token"))
    ]


def _speed(numbers: dict[str, Any]) -> Number:
    return numbers.get("training", {}).get("tokens_per_second") or 0.0
