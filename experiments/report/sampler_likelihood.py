"""The likelihood of samplers: in words, and as a figure against network calls."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report.format import estimate, is_number, number
from experiments.report.series import Results, Source, families
from experiments.report.style import WIDTH, legend_above, styled

TITLE = "Likelihood of the samplers against network calls"
CAPTION = (
    "Each mark is one setting of a sampler, on the same held-out windows; lower is "
    "better. A filled mark is the exact likelihood of that sampler. A hollow one is an "
    "upper bound from several orders; its bar ends at the lower bound, where there is "
    "one."
)


class Point(NamedTuple):
    """A setting of a sampler with a finite likelihood.

    Attributes:
      family: family of the sampler.
      setting: name of the setting.
      found: what `lm_jax.evaluation.sampler_likelihood.score` says of it.
    """

    family: Source
    setting: str
    found: dict[str, Any]


def points(results: Results) -> list[Point]:
    """The settings of the frontier that were measured and exclude no window."""
    lines = (results.get("frontier") or {}).get("families") or {}
    return [
        Point(family, point["setting"], point["likelihood"])
        for family in families(results)
        for point in lines.get(family.name) or []
        if is_number((point.get("likelihood") or {}).get("nats_per_token"))
    ]


def scored_samplers(family: Source) -> list[Point]:
    """The samplers that were scored with the family, and exclude no window."""
    measured = (family.numbers.get("likelihood") or {}).get("samplers") or {}
    return [
        Point(family, name, found)
        for name, found in measured.items()
        if is_number(found.get("nats_per_token"))
    ]


@styled
def figure(results: Results) -> Figure:
    """One mark for each point; those of a sampler with several steps are joined, and
    its name stands at the fewest calls."""
    drawn = Figure((WIDTH, 3.4), layout="constrained")
    axes = drawn.subplots()
    shown, curves = points(results), {}
    for family, setting, found in shown:
        x, y = found["nfe"], found["nats_per_token"]
        is_exact = found["kind"] == "exact"
        fill = family.color if is_exact else "none"
        if is_number(found.get("lower")):
            axes.plot([x, x], [found["lower"], y], color=family.color, lw=0.8)
        axes.plot([x], [y], color=family.color, marker=family.marker, mfc=fill, ms=5)
        name = setting.removeprefix("sampler=").partition("@")[0]
        curves.setdefault((family.name, name), []).append((x, y, family.color))
    height = np.ptp([point.found["nats_per_token"] for point in shown]) or 1.0
    names: list[tuple[float, float]] = []
    for (_, name), line in curves.items():
        across, up, colors = zip(*sorted(line), strict=True)
        axes.plot(across, up, color=colors[0], lw=0.8, alpha=0.6)
        is_taken = any(
            x == across[0] and abs(y - up[0]) < 0.05 * height for x, y in names
        )
        names.append((across[0], up[0]))
        axes.annotate(
            name,
            (across[0], up[0]),
            xytext=(4, -10 if is_taken else 3),
            textcoords="offset points",
            fontsize="x-small",
        )
    handles = [
        Line2D([], [], ls="", color=f.color, marker=f.marker, label=f.label)
        for f in {point.family.name: point.family for point in shown}.values()
    ]
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")  # the style prints no formulas
    axes.set_xlabel("Network calls per window")
    axes.set_ylabel("Nats per token")
    legend_above(drawn, handles, ncols=3)
    return drawn


def sampler_nats(found: Mapping[str, Any]) -> str:
    """Nats per token of a sampler in a table: exact, or its bounds."""
    value = found.get("nats_per_token")
    if "refused" in found:
        return "none: it drops or masks tokens"
    if value is None:
        return f"infinite: {found['num_impossible']} windows have probability 0"
    if found["kind"] == "exact":
        low, high = found["data_low"], found["data_high"]
        return estimate({"value": value, "low": low, "high": high})
    text = f"≤ {number(value)} ({found['num_orders']} orders; certified ≤ "
    text += f"{number(found['certified'])}; NELBO {number(found['nelbo'])})"
    lower = found.get("lower")
    return text if lower is None else f"{number(lower)} ≤, {text}"
