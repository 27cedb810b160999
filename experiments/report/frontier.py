"""The frontier figure: quality, variety and sampling time."""

from typing import Any

from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report.format import is_number
from experiments.report.series import Results, families, held_out
from experiments.report.style import WIDTH, legend_above, styled

TITLE = "Quality against variety for several settings of the samplers"
CAPTION = (
    "Each mark is one setting of temperature, top-p or number of steps. Its area grows "
    "with the seconds per sample. Higher means better text, further left means more "
    "variety; held-out text is the target. Bars are 95% intervals over texts."
)
X, X_LABEL = "self_bleu", "Self-BLEU (lower is more varied)"
QUALITIES = {
    "accepted_share": "Stories that the grammar accepts",
    "seen_4gram_share": "4-grams that occur in the training text",
}


def has_frontier(results: Results) -> bool:
    """Whether the results have a point of the frontier."""
    found = results.get("frontier") or {}
    return any(found.get("families", {}).values())


@styled
def frontier(results: Results) -> Figure:
    """One mark for each setting of each family, with intervals in both directions."""
    found = results["frontier"]
    lines = found["families"]
    points = [point for line in lines.values() for point in line]
    quality = next(name for name in QUALITIES if any(name in p for p in points))
    slowest = max((point.get("seconds_per_story") or 0.0) for point in points) or 1.0
    figure = Figure((WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    handles = []
    for family in families(results):
        for point in lines.get(family.name) or []:
            area = 10.0 + 90.0 * (point.get("seconds_per_story") or 0.0) / slowest
            look = {"color": family.color, "marker": family.marker}
            _mark(axes, point, quality, area=area, **look)
        handles.append(Line2D([], [], ls="", color=family.color, marker=family.marker))
        handles[-1].set_label(family.label)
    human = held_out(results)
    if found.get("human"):
        _mark(axes, found["human"], quality, 40.0, human.color, human.marker)
        handles.append(Line2D([], [], ls="", color=human.color, marker=human.marker))
        handles[-1].set_label(human.label)
    axes.set_xlabel(X_LABEL)
    axes.set_ylabel(QUALITIES[quality])
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    legend_above(figure, handles, ncols=3)
    return figure


def _mark(
    axes: Any,
    point: dict[str, Any],
    quality: str,
    area: float,
    color: str,
    marker: str,
) -> None:
    across, up = point.get(X) or {}, point.get(quality) or {}
    if not is_number(across.get("value")) or not is_number(up.get("value")):
        return
    x, y = across["value"], up["value"]
    axes.plot([across["low"], across["high"]], [y, y], color=color, lw=0.8, alpha=0.5)
    axes.plot([x, x], [up["low"], up["high"]], color=color, lw=0.8, alpha=0.5)
    axes.scatter([x], [y], s=area, color=color, marker=marker, alpha=0.8, linewidths=0)
