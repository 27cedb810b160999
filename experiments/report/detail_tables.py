"""Detail tables: openings, order, calibration, grammar, frontier and seeds."""

from collections.abc import Mapping
from typing import Any

from experiments.report.format import MISSING, bound, estimate, number
from experiments.report.sampler_likelihood import sampler_nats
from experiments.report.series import Results, Source, families, sources
from experiments.report.table import Table

OPENING_ROWS = {
    "share_of_commonest": ("Share of the most frequent", ".3f"),
    "entropy": ("Entropy (nats)", ".2f"),
    "distinct": ("Distinct", ",.0f"),
    "rarefaction": ("Distinct, expected in the corpus", ",.0f"),
    "singletons": ("Occurring once", ",.0f"),
    "total_variation": ("Total variation from the corpus", ".3f"),
    "total_variation_floor": ("The same for samples of the corpus itself", ".3f"),
    "jensen_shannon": ("Jensen-Shannon distance from the corpus", ".3f"),
    "jensen_shannon_floor": ("The same for samples of the corpus itself", ".3f"),
}
RANGE_NOTE = (
    "In the rows for samples of the corpus itself, brackets hold 95% of random samples "
    "with equally many documents. A distance above this range shows that texts differ "
    "from the corpus; a distance within it does not."
)


def all_details(results: Results) -> list[Table]:
    """The detail tables for which these results have numbers."""
    tables = [
        openings_by_length(results),
        order(results),
        by_draws(results),
        sampler_likelihood(results),
        calibration(results),
        grammar(results),
        frontier(results),
        over_seeds(results),
    ]
    return [table for table in tables if table.rows]


def openings_by_length(results: Results) -> Table:
    """Openings of one to five words: one row for each measure and length."""
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
    """The order in which tokens were sampled, and how many per network call."""
    columns = families(results)
    names = {
        "kendall_tau": "Kendall's tau between step and position",
        "left_neighbour_share": "Tokens sampled after their left neighbour",
        "tokens_per_call": "Tokens sampled per network call",
    }
    rows = []
    for name, label in names.items():
        cells = [(column.numbers.get("order") or {}).get(name) for column in columns]
        if any(cells):
            rows.append((label, *map(estimate, cells)))
    header = ("", *(column.label for column in columns))
    note = (
        "Tau is 1 for sampling from left to right, and 0 if step and position are "
        "independent. A token that is sampled in the same step as its left neighbour "
        "does not count as sampled after it. Means over samples."
    )
    return Table("order", "The order in which tokens are sampled", header, rows, note)


def by_draws(results: Results) -> Table:
    """The bound by number of draws."""
    rows = [
        (family.label, number(point["num_draws"], ",.0f"), _bound(family, point))
        for family in families(results)
        for point in _scores(family).get("by_draws") or []
    ]
    header = ("", "Draws per window", "Nats per token")
    note = "Each row has its own draws, on the same windows."
    return Table("by_draws", "The bound by number of draws", header, rows, note)


def sampler_likelihood(results: Results) -> Table:
    """The likelihood of held-out windows under the samplers, exact or bounded."""
    labels = {family.name: family.label for family in families(results)}
    points = (results.get("frontier") or {}).get("families") or {}
    rows, windows = [], 0
    for name, line in points.items():
        for point in line:
            found = point.get("likelihood") or {}
            if not found:
                continue
            windows = found.get("num_windows", windows)
            cells = (sampler_nats(found), number(found.get("nfe"), ",.0f"))
            rows.append((labels.get(name, name), str(point["setting"]), *cells))
    header = ("", "Setting", "Nats per token", "Calls per window")
    note = (
        f"On {windows} full held-out windows. A value without a sign is exact: the "
        "probability with which that sampler writes the window. For a sampler in "
        "random order, ≤ is the mean over orders; with 95% confidence the true value "
        "is not above the certified one, and a lower bound is given only where enough "
        "draws carry it. The brackets of an exact value are over windows."
    )
    return Table("sampler_likelihood", "Likelihood of the samplers", header, rows, note)


def calibration(results: Results) -> Table:
    """Table of the expected calibration error of the most likely token."""
    rows = []
    for family in families(results):
        found = _scores(family).get("calibration") or {}
        if found:
            rows.append((family.label, estimate(found["expected_calibration_error"])))
    note = (
        "AR predicts from left to right, MDLM in random orders; each is measured on "
        "the predictions of its own likelihood score. The error of a "
        "calibrated model is also above 0, as the number of tokens is finite."
    )
    header = ("", "Expected calibration error")
    return Table(
        "calibration", "Calibration of the most likely token", header, rows, note
    )


def grammar(results: Results) -> Table:
    """Errors and divergences by the grammar, for a corpus that has one."""
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
        "An error is a later mention that disagrees with the first one. Forward "
        "divergence: how many nats more than the grammar the model needs on held-out "
        "text; computed from a bound, it is an upper limit. Backward divergence: over "
        "accepted stories only; computed from a bound, it is a lower limit. Over all "
        "stories it is infinite if one story is not accepted."
    )
    for column, part in zip(columns, parts, strict=True):
        for name in ("forward_kl_per_token", "backward_kl_per_story"):
            if ((part.get(name) or {}).get("value") or 0.0) < 0.0:
                cause = "the gap of the bound and " if column.is_bound else ""
                note += (
                    f" A true divergence is never negative: {column.label}'s "
                    f"{names[name].lower()} is negative because of {cause}sampling "
                    "noise."
                )
    header = ("", *(column.label for column in columns))
    return Table(
        "grammar", "Errors and divergences under the grammar", header, rows, note
    )


def frontier(results: Results) -> Table:
    """Quality, variety and seconds for every setting of the samplers."""
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
    header = ("", "Setting", *(_NAMES[name] for name in names), "Seconds per sample")
    note = f"{found.get('num_stories', 0):,} samples for each setting."
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


_PLAIN = {"unfinished": "Unfinished stories", "other": "Stories outside the grammar"}
_NAMES = {
    "accepted_share": "Accepted",
    "seen_4gram_share": "4-grams in training text",
    "distinct_4": "Distinct-4",
    "self_bleu": "Self-BLEU",
    "opening_distance": "Distance of first words from the corpus",
}


def _scores(family: Source) -> dict[str, Any]:
    return family.numbers.get("likelihood") or {}


def _bound(family: Source, point: Mapping[str, Any]) -> str:
    return bound({"is_bound": family.is_bound, **point}, point["nats_per_token"])
