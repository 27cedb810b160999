"""The tables behind the tables: openings, orders, grammar, frontier and seeds."""

from collections.abc import Mapping
from typing import Any

from experiments.report.format import MISSING, bound, estimate, number
from experiments.report.series import Results, Source, families, sources
from experiments.report.table import Table

OPENING_ROWS = {
    "share_of_commonest": ("Share of the commonest", ".3f"),
    "entropy": ("Entropy (nats)", ".2f"),
    "distinct": ("Distinct", ",.0f"),
    "rarefaction": ("Distinct, expected of the corpus", ",.0f"),
    "singletons": ("Occurring once", ",.0f"),
    "total_variation": ("Total variation from the corpus", ".3f"),
    "total_variation_floor": ("The same of the corpus's own samples", ".3f"),
    "jensen_shannon": ("Jensen-Shannon distance from the corpus", ".3f"),
    "jensen_shannon_floor": ("The same of the corpus's own samples", ".3f"),
}
RANGE_NOTE = (
    "In rows of the corpus itself, brackets hold 95% of its own samples of as many "
    "stories: a distance above them tells the stories from the corpus's, a distance "
    "within them does not."
)


def all_details(results: Results) -> list[Table]:
    """Those that these results can fill."""
    tables = [
        openings_by_length(results),
        order(results),
        orders(results),
        by_draws(results),
        calibration(results),
        grammar(results),
        frontier(results),
        over_seeds(results),
    ]
    return [table for table in tables if table.rows]


def openings_by_length(results: Results) -> Table:
    """Openings of one to five words: a row for each measure and length."""
    columns = sources(results)
    rows = []
    for n in map(str, range(1, 6)):
        for name, (label, spec) in OPENING_ROWS.items():
            lines = [
                (column.numbers.get("openings_by_length") or {}).get(n, {}).get(name)
                for column in columns
            ]
            if any(lines):
                words = "1 word" if n == "1" else f"{n} words"
                cells = (estimate(value, spec) for value in lines)
                rows.append((f"{words}: {label}", *cells))
    header = ("", *(column.label for column in columns))
    caption = "Openings of one to five words"
    return Table("openings_by_length", caption, header, rows, RANGE_NOTE)


def order(results: Results) -> Table:
    """In which order, and how many at a time, tokens were written."""
    columns = families(results)
    names = {
        "kendall_tau": "Kendall's tau of steps and positions",
        "left_neighbour_share": "Tokens written after their left neighbour",
        "tokens_per_call": "Tokens written per network call",
    }
    rows = []
    for name, label in names.items():
        cells = [(column.numbers.get("order") or {}).get(name) for column in columns]
        if any(cells):
            rows.append((label, *map(estimate, cells)))
    header = ("", *(column.label for column in columns))
    note = (
        "Tau is 1 where text is written from left to right, 0 where position says "
        "nothing of time. A token that is written together with its left neighbour "
        "does not come after it. Means over stories."
    )
    return Table("order", "The order in which stories are written", header, rows, note)


def orders(results: Results) -> Table:
    """The chain rule in given orders, for families that have a choice."""
    rows = []
    for family in families(results):
        for name, value in (_scores(family).get("orders") or {}).items():
            windows = number(value.get("num_windows"), ",.0f")
            cells = (name.replace("_", " "), estimate(value), windows)
            rows.append((family.label, *cells))
    header = ("", "Order", "Nats per token", "Windows")
    note = (
        "Left to right and confidence are exact likelihoods of as many models, which "
        "share their network; random is one draw of the bound. Brackets are over "
        "windows."
    )
    return Table("orders", "The chain rule in given orders", header, rows, note)


def by_draws(results: Results) -> Table:
    """How a bound converges as its draws grow."""
    rows = [
        (family.label, number(point["num_draws"], ",.0f"), _bound(family, point))
        for family in families(results)
        for point in _scores(family).get("by_draws") or []
    ]
    header = ("", "Draws a window", "Nats per token")
    note = "Each row has draws of its own, on the same windows."
    return Table(
        "by_draws", "The bound against its number of draws", header, rows, note
    )


def calibration(results: Results) -> Table:
    """The expected calibration error of the likeliest token."""
    rows = []
    for family in families(results):
        found = _scores(family).get("calibration") or {}
        if found:
            rows.append((family.label, estimate(found["expected_calibration_error"])))
    note = (
        "AR predicts left to right, MDLM in random orders: each is judged on the "
        "predictions that its score is made of. Chance alone is above 0."
    )
    header = ("", "Expected calibration error")
    return Table("calibration", "Whether confidence is deserved", header, rows, note)


def grammar(results: Results) -> Table:
    """What the grammar says of the stories, where there is one."""
    columns = sources(results)
    parts = [column.numbers.get("grammar") or {} for column in columns]
    names = {
        "source_nats_per_story": "-log p under the grammar, accepted stories (nats)",
        "forward_kl_per_token": "Forward divergence (nats per token)",
        "backward_kl_per_story": "Backward divergence, accepted stories (nats)",
    }
    rows = [
        (label, *(estimate(part.get(name)) for part in parts))
        for name, label in names.items()
        if any(part.get(name) for part in parts)
    ]
    errors = [part.get("errors") or {} for part in parts]
    for kind in dict.fromkeys(kind for found in errors for kind in found):
        cells = (estimate(found.get(kind, {"value": 0.0})) for found in errors)
        rows.append((_PLAIN.get(kind, f"Stories with a wrong {kind}"), *cells))
    note = (
        "An error is a re-mention that disagrees with the first one. Forward: what the "
        "model pays more than the grammar on held-out text; of a bound, at most that. "
        "Backward: over accepted stories alone; of a bound, at least that. For the "
        "whole model it is infinite where any story is not accepted."
    )
    for column, part in zip(columns, parts, strict=True):
        for name in ("forward_kl_per_token", "backward_kl_per_story"):
            if ((part.get(name) or {}).get("value") or 0.0) < 0.0:
                cause = "the slack of the bound and " if column.is_bound else ""
                note += (
                    f" No divergence is negative in truth; {column.label}'s "
                    f"{names[name].lower()} is, by {cause}the chance of its sample."
                )
    header = ("", *(column.label for column in columns))
    return Table("grammar", "What the grammar says", header, rows, note)


def frontier(results: Results) -> Table:
    """Quality, variety and seconds at every setting of the samplers."""
    found = results.get("frontier") or {}
    labels = {family.name: family.label for family in families(results)}
    points = [
        (labels.get(name, name), point["setting"], point)
        for name, line in (found.get("families") or {}).items()
        for point in line
    ]
    if found.get("human"):
        points.append(("Held-out text", MISSING, found["human"]))
    names = [name for name in _NAMES if any(name in point for *_, point in points)]
    rows = []
    for label, setting, point in points:
        cells = [estimate(point.get(name)) for name in names]
        seconds = number(point.get("seconds_per_story"), ".3f")
        rows.append((str(label), str(setting), *cells, seconds))
    header = ("", "Setting", *(_NAMES[name] for name in names), "Seconds a story")
    note = f"Of {found.get('num_stories', 0):,} stories at each setting."
    return Table("frontier", "Quality, variety and seconds", header, rows, note)


def over_seeds(results: Results) -> Table:
    """Means and t-intervals over training seeds."""
    found = results.get("seeds") or {}
    columns = families(results)
    parts = [(found.get("families") or {}).get(column.name, {}) for column in columns]
    rows = []
    for metric in parts[0] if parts else {}:
        label = metric.replace("_", " ").replace(".", ": ")
        rows.append((label, *(estimate(part.get(metric)) for part in parts)))
    header = ("", *(column.label for column in columns))
    seeds = ", ".join(map(str, found.get("seeds", [])))
    note = f"Mean and 95% t-interval over runs with seeds {seeds}."
    return Table("seeds", "Over training seeds", header, rows, note)


_PLAIN = {"unfinished": "Stories cut short", "other": "Stories outside the language"}
_NAMES = {
    "accepted_share": "Accepted",
    "seen_4gram_share": "Seen 4-grams",
    "distinct_4": "Distinct-4",
    "self_bleu": "Self-BLEU",
    "opening_distance": "Distance of first words",
}


def _scores(family: Source) -> dict[str, Any]:
    return family.numbers.get("likelihood") or {}


def _bound(family: Source, point: Mapping[str, Any]) -> str:
    return bound({"is_bound": family.is_bound, **point}, point["nats_per_token"])
