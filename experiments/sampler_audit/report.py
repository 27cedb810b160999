"""The audit as a table and a figure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report.format import MISSING, estimate, number
from experiments.report.style import legend_above, styled
from experiments.report.table import Table
from experiments.sampler_audit.audit import NETWORK_WINDOWS

Row = Mapping[str, Any]
MARKERS = "osD^v<>PX"
SPEC = "z.3f"  # no minus before a zero


def table(name: str, found: Mapping[str, Any]) -> Table:
    """Calls and divergences of every setting on one source."""
    rows = []
    for row in found["rows"]:
        cells = (number(row["nfe"], ".1f"), _forward(row), _reverse(row))
        network = row.get("network") or {}
        of_network = (
            _forward(network),
            estimate(network.get("model_share"), SPEC),
            _reverse(network),
        )
        rows.append((_setting(row), *cells, estimate(row["source_nats"]), *of_network))
    header = ("Sampler", "Calls per window", "Forward KL", "Reverse KL", "-log p")
    header += ("Network: forward KL", "Network's share", "Network: reverse KL")
    note = (
        f"Nats per token; the entropy of the source is {number(found['entropy'])}. "
        f"{found['num_windows']} windows of {found['length']} tokens. Forward KL: "
        "windows of the source under the sampler, exact or, with ≤, an upper bound by "
        f"the mean over {found['num_orders']} orders. Reverse KL: samples, exact or "
        f"between two bounds; {MISSING} for a sampler without a likelihood. -log p: "
        "samples under the source; it is the entropy if the sampler draws from the "
        "source. Network: the same sampler with a trained MDLM, on the first "
        f"{NETWORK_WINDOWS} windows and with half of the orders; its share is what its "
        "forward KL has above that of the exact conditionals on the same windows. "
        "Brackets are 95% intervals over windows."
    )
    if not any(row.get("network") for row in found["rows"]):
        header, rows = header[:5], [row[:5] for row in rows]
    return Table(
        f"audit_{name}", f"Error of the samplers on {name}", header, rows, note
    )


def _forward(row: Row) -> str:
    text = estimate(row.get("forward_kl"), SPEC)
    return f"≤ {text}" if row.get("kind") == "bound" else text


def _reverse(row: Row) -> str:
    sides = [row.get(f"reverse_kl_{side}") for side in ("low", "high")]
    if all(sides):
        return " to ".join(number(side["value"], SPEC) for side in sides if side)
    return estimate(row.get("reverse_kl"), SPEC)


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
    """Forward KL against network calls: a column for each source; below, the same
    samplers with a trained network, where there is one."""
    measured = {"exact conditionals": audits, "trained network": _of_network(audits)}
    panels_of = {what: m for what, m in measured.items() if m}
    drawn = Figure(
        (4.1 * len(audits), 3.2 * len(panels_of) + 0.4), layout="constrained"
    )
    panels = drawn.subplots(len(panels_of), len(audits), squeeze=False)
    names = list(dict.fromkeys(_names(audits)))
    for line, (what, of_sources) in zip(panels, panels_of.items(), strict=True):
        _row_of_panels(line, what, of_sources, names)
    handles = [
        Line2D([], [], color=f"C{i}", marker=MARKERS[i], label=name, lw=1.2)
        for i, name in enumerate(names)
    ]
    legend_above(drawn, handles, ncols=4)
    return drawn


def _of_network(audits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The audits with the rows of the trained network; {} without one."""
    return {
        source: {**found, "rows": rows}
        for source, found in audits.items()
        if (
            rows := [
                {**row, **row["network"]} for row in found["rows"] if "network" in row
            ]
        )
    }


def _row_of_panels(
    panels: Sequence[Any],
    what: str,
    audits: Mapping[str, Mapping[str, Any]],
    names: Sequence[str],
) -> None:
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
        axes.set_title(f"{source.replace('_', ' ')}, {what}")
        axes.set_xlabel("Network calls per window")
    panels[0].set_ylabel("Forward KL (nats per token)")


def _names(audits: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    for found in audits.values():
        for row in found["rows"]:
            if row["kind"] != "none":
                yield row["sampler"]
