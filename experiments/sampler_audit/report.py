"""The audit as a table and a figure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report.format import MISSING, estimate, number
from experiments.report.style import legend_above, styled
from experiments.report.table import Table

Row = Mapping[str, Any]
MARKERS = "osD^v<>PX"
SPEC = "z.3f"  # no minus before a zero


def table(name: str, found: Mapping[str, Any]) -> Table:
    """Calls and divergences of every setting on one source."""
    rows = []
    for row in found["rows"]:
        forward = estimate(row.get("forward_kl"), SPEC)
        if row["kind"] == "bound":
            forward = f"≤ {forward}"
        cells = (
            number(row["nfe"], ".1f"),
            forward,
            estimate(row.get("reverse_kl"), SPEC),
        )
        rows.append((_setting(row), *cells, estimate(row["source_nats"])))
    header = ("Sampler", "Calls per window", "Forward KL", "Reverse KL", "-log p")
    note = (
        f"Nats per token; the entropy of the source is {number(found['entropy'])}. "
        f"{found['num_windows']} windows of {found['length']} tokens. Forward KL: "
        "windows of the source under the sampler, exact or, with ≤, an upper bound by "
        f"the mean over {found['num_orders']} orders. Reverse KL: samples, where the "
        f"sampler's likelihood is exact, else {MISSING}. -log p: samples under the "
        "source; it is the entropy if the sampler draws from the source. Brackets are "
        "95% intervals over windows."
    )
    return Table(
        f"audit_{name}", f"Error of the samplers on {name}", header, rows, note
    )


def _setting(row: Row) -> str:
    name = row["sampler"]
    if name == "eb":
        return f"eb, {row['entropy_bound']:g} nats"
    if name == "threshold":
        return f"threshold {row['threshold']:g}"
    if name == "first_hitting":
        return name
    return f"{name}, {row['num_steps']} steps"


@styled
def figure(audits: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Forward KL against network calls, a panel for each source."""
    drawn = Figure((4.1 * len(audits), 3.6), layout="constrained")
    panels: Sequence[Any] = drawn.subplots(1, len(audits), squeeze=False)[0]
    names = list(dict.fromkeys(_names(audits)))
    for axes, (source, found) in zip(panels, audits.items(), strict=True):
        for i, name in enumerate(names):
            rows = [r for r in found["rows"] if r["sampler"] == name]
            rows = sorted(rows, key=lambda row: row["nfe"])
            is_exact = all(row["kind"] == "exact" for row in rows)
            axes.plot(
                [row["nfe"] for row in rows],
                [max(row["forward_kl"]["value"], 0.0) for row in rows],
                color=f"C{i}",
                marker=MARKERS[i],
                mfc=f"C{i}" if is_exact else "none",
                ls="-" if is_exact else "--",
                lw=1.2,
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("symlog", linthresh=1e-3)
        axes.set_ylim(bottom=-2e-4)
        for axis in (axes.xaxis, axes.yaxis):  # the style prints no formulas
            axis.set_major_formatter("{x:g}")
        axes.set_title(source)
        axes.set_xlabel("Network calls per window")
    panels[0].set_ylabel("Forward KL (nats per token)")
    handles = [
        Line2D([], [], color=f"C{i}", marker=MARKERS[i], label=name, lw=1.2)
        for i, name in enumerate(names)
    ]
    legend_above(drawn, handles, ncols=4)
    return drawn


def _names(audits: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    for found in audits.values():
        for row in found["rows"]:
            if row["kind"] != "none":
                yield row["sampler"]
