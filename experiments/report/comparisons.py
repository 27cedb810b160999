"""The table of differences between the families: resolved or not resolved."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from experiments.report.format import (
    COPYING,
    DIVERSITY,
    FLUENCY,
    MISSING,
    OPENINGS,
    VARIETY,
    Metric,
    bound,
    difference,
    estimate,
    excludes_zero,
)
from experiments.report.series import Results, Source, families
from experiments.report.table import Table

NOT_RESOLVED = "not resolved"
BEST_STEP = "Share of the run at the lowest validation loss"
SPEED = Metric("Tokens per second", ",.0f")
NOTE = (
    "A difference is resolved where 0 lies outside its 95% interval. That interval is "
    "computed from the intervals of both families; for likelihood, by a bootstrap over "
    "the windows that both scored. Where the families do not differ, one measure of "
    "twenty is expected to look resolved by chance. Intervals of one run are over "
    "samples or windows, not over training seeds. With several seeds, the last column "
    "uses a t-interval over seeds: only that one is about the families and not about "
    "one run."
)


class Measure(NamedTuple):
    """A measure on which two families can differ.

    Attributes:
      subject: group of the summary that the measure belongs to.
      metric: label and format of the measure.
      group, name: keys of the measure in results.json.
    """

    subject: str
    metric: Metric
    group: str
    name: str


class Comparison(NamedTuple):
    """The difference of two families in one measure.

    Attributes:
      measure: the measure.
      numbers: values of the first and of the other family.
      values: printed values of the first and of the other family.
      gap: the other family's value minus the first's; None if it has no interval.
      words: which family has the higher value, or that this is not resolved.
      over_seeds: the same over training seeds; a dash for a single seed.
    """

    measure: Measure
    numbers: tuple[float, float]
    values: tuple[str, str]
    gap: Mapping[str, Any] | None
    words: str
    over_seeds: str


MEASURES = [
    Measure(
        "Throughput",
        Metric("Tokens per second", ",.0f"),
        "training",
        "tokens_per_second",
    ),
    Measure("Convergence", Metric(BEST_STEP), "convergence", "best_step_share"),
    Measure("Likelihood", Metric("Nats per token"), "likelihood", "nats_per_token"),
    Measure("Likelihood", Metric("Nats per token, exact"), "exact", "nats_per_token"),
    *[Measure("Openings", OPENINGS[name], "openings", name) for name in OPENINGS],
    *[
        Measure("Openings", DIVERSITY[name], "diversity", name)
        for name in ("unique_first_words", "unique_openings")
    ],
    *[Measure("Variety", VARIETY[name], "variety", name) for name in VARIETY],
    Measure("Variety", DIVERSITY["self_bleu"], "diversity", "self_bleu"),
    *[Measure("Fluency", FLUENCY[name], "fluency", name) for name in FLUENCY],
    *[Measure("Copying", COPYING[name], "fluency", name) for name in COPYING],
]


def verdicts(results: Results) -> Table:
    """Table of all measures that both families have, by subject."""
    first, *others = families(results)
    rows = []
    for other in others:
        for comparison in comparisons(results, first, other):
            measure = comparison.measure
            cells = (
                measure.metric.label,
                measure.subject,
                *comparison.values,
                estimate(comparison.gap, measure.metric.format),
                comparison.words,
                comparison.over_seeds,
            )
            rows.append(cells)
    names = [first.label, *(other.label for other in others[:1])]
    header = ("", "Subject", *names, "Difference", "Result", "Over seeds")
    if not results.get("seeds"):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table("verdicts", "Resolved and unresolved differences", header, rows, NOTE)


def comparisons(results: Results, first: Source, other: Source) -> Iterator[Comparison]:
    """Compares two families in every measure that both have."""
    for measure in MEASURES:
        a, b = (_value(source, measure) for source in (first, other))
        if a is None or b is None:
            continue
        gap = _gap(results, measure, other, a, b)
        words = _words(gap, measure, first, other)
        values = (_cell(first, measure, a), _cell(other, measure, b))
        over = (results.get("seeds") or {}).get("differences", {}).get(other.name, {})
        seeds_gap = over.get(f"{measure.group}.{measure.name}")
        over_seeds = _words(seeds_gap, measure, first, other) if seeds_gap else MISSING
        numbers = a["value"], b["value"]
        yield Comparison(measure, numbers, values, gap, words, over_seeds)


def in_words(results: Results, first: Source, other: Source) -> str:
    """One sentence: how many measures of each subject are resolved."""
    counts: dict[str, list[bool]] = {}
    for comparison in comparisons(results, first, other):
        words = (
            comparison.words
            if comparison.over_seeds == MISSING
            else comparison.over_seeds
        )
        is_resolved = not words.startswith(NOT_RESOLVED)
        counts.setdefault(comparison.measure.subject, []).append(is_resolved)
    parts = []
    for subject, found in counts.items():
        share = f"{sum(found)} of {len(found)}" if len(found) > 1 else ""
        state = "resolved" if any(found) else NOT_RESOLVED
        parts.append(f"{subject.lower()} {state}" + (f" ({share})" if share else ""))
    if not parts:
        return ""
    num_seeds = len((results.get("seeds") or {}).get("seeds", [1]))
    basis = f"{num_seeds} training seeds" if num_seeds > 1 else "one training seed"
    return f"Differences of {first.label} and {other.label}, from {basis}: " + (
        ", ".join(parts) + "."
    )


def _cell(source: Source, measure: Measure, value: dict[str, Any]) -> str:
    """The printed value; a bound is marked as a bound."""
    if measure.group == "likelihood":
        return bound(source.numbers["likelihood"], value["value"])
    return estimate(value, measure.metric.format)


def _value(source: Source, measure: Measure) -> dict[str, Any] | None:
    numbers = source.numbers
    if measure.group == "convergence":
        curve = [p for p in numbers.get("curve") or [] if p.get("nats_per_token")]
        if len(curve) < 2 or not curve[-1].get("step"):
            return None
        best = min(curve, key=lambda point: point["nats_per_token"])
        return {"value": best["step"] / curve[-1]["step"]}
    value = (numbers.get(measure.group) or {}).get(measure.name)
    if isinstance(value, Mapping):
        return dict(value)
    return None if value is None else {"value": value}


def _gap(
    results: Results,
    measure: Measure,
    other: Source,
    a: dict[str, Any],
    b: dict[str, Any],
) -> Mapping[str, Any] | None:
    if measure.group == "likelihood":
        pairs = (results.get("differences") or {}).get("nats_per_token") or {}
        return pairs.get(other.name)
    if measure.group == "exact":
        return results["differences"]["exact"][other.name]
    return difference(a, b)


def _words(
    gap: Mapping[str, Any] | None, measure: Measure, first: Source, other: Source
) -> str:
    if gap is None:
        is_scored = measure.group == "likelihood"
        return f"{NOT_RESOLVED} ({'no common windows' if is_scored else 'one run'})"
    if not excludes_zero(gap):
        return NOT_RESOLVED
    higher, lower = (other, first) if gap["value"] > 0 else (first, other)
    if measure.group == "likelihood" and higher.is_bound:
        return f"{NOT_RESOLVED} ({higher.label} is a bound)"
    return f"{higher.label} > {lower.label}"
