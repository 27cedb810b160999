"""Learning curves against steps, tokens, FLOPs or time."""

import math
from typing import Any

from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.report.format import Number, is_number
from experiments.report.series import Results, Source, families, source_entropy
from experiments.report.style import INK, WIDTH, legend_above, styled
from experiments.report.tables import curve_draws
from lm_jax.evaluation.intervals import Z_95

AXES = {
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
    "Nats per token on the validation windows that are scored during training; all "
    "families have the same windows. A curve marked ≤ is an upper bound, with the "
    "interval over its draws. Time and FLOPs are those of training steps only; FLOPs "
    "count the output layer at every position. The scale is logarithmic if the loss "
    "falls below a third of its highest value."
)


@styled
def learning_curves(results: Results, against: str = "step") -> Figure:
    """Validation nats per token of every family, with the known entropy of the source.

    Args:
      results: content of results.json.
      against: "step", "tokens", "flops" or "seconds" (of training steps only).
    """
    if against not in AXES:
        raise ValueError(f"against={against!r}: choose one of {', '.join(AXES)}")
    curves = [(family, _points(family, against)) for family in families(results)]
    height = 3.2 + 0.2 * max(0, len(curves) - 2)  # room for the legend
    figure = Figure((WIDTH, height), layout="constrained")
    axes = figure.subplots()
    largest = max((p[against] for _, points in curves for p in points), default=1)
    unit, label = _unit(largest, against)
    handles, lowest, highest, has_band = [], math.inf, 0.0, False
    for family, points in curves:
        x = [point[against] / unit for point in points]
        y = [point["nats_per_token"] for point in points]
        errors = [Z_95 * (point.get("standard_error") or 0.0) for point in points]
        (line,) = axes.plot(
            x, y, color=family.color, marker=family.marker, ls=family.line
        )
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
        line.set_label("Entropy of the source")
        handles.append(line)
        lowest = min(lowest, entropy)
    if highest > 3.0 * lowest > 0.0:  # else differences at the end are not visible
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


def has_curve(results: Results, against: str) -> bool:
    """Whether any family has a point of this curve."""
    return any(_points(family, against) for family in families(results))


def _unit(largest: Number, against: str) -> tuple[Number, str]:
    """The largest unit of which the axis holds two or more, and the axis label."""
    label, units = AXES[against]
    unit, name = [pair for pair in units if pair[0] == 1 or largest >= 2 * pair[0]][-1]
    return unit, f"{label} ({name})" if name else label


def _points(family: Source, against: str) -> list[dict[str, Any]]:
    """The points of a learning curve that have both coordinates."""
    curve = family.numbers.get("curve") or []
    return [
        point
        for point in curve
        if is_number(point.get(against)) and is_number(point.get("nats_per_token"))
    ]
