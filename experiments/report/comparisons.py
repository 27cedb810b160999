"""Which differences between the families are resolved, and which are not."""

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
    "A difference is resolved where 0 lies outside its 95% interval, which follows "
    "from both intervals; for likelihood, from a bootstrap over the windows that both "
    "scored. Of twenty equal measures one is expected to look resolved. Intervals of "
    "one run are over stories or windows, not over training seeds; where there are "
    "several seeds the last column has the verdict of a t-interval over them, and that "
    "one speaks of the families."
)


class Row(NamedTuple):
    """A measure on which two families can differ.

    Attributes:
      subject: the question that it belongs to.
      metric: how it is named and printed.
      group, name: where results.json has it.
    """

    subject: str
    metric: Metric
    group: str
    name: str


class Verdict(NamedTuple):
    """What is known of a difference.

    Attributes:
      row: of what.
      values: of both families, as cells.
      gap: the other family's minus the first's, or None where nobody knows.
      words: who has the higher value, or that it is not resolved.
      over_seeds: the same over training seeds; a dash where there is one seed.
    """

    row: Row
    values: tuple[str, str]
    gap: Mapping[str, Any] | None
    words: str
    over_seeds: str


ROWS = [
    Row(
        "Throughput",
        Metric("Tokens per second", ",.0f"),
        "training",
        "tokens_per_second",
    ),
    Row("Convergence", Metric(BEST_STEP), "convergence", "best_step_share"),
    Row("Likelihood", Metric("Nats per token"), "likelihood", "nats_per_token"),
    *[Row("Openings", OPENINGS[name], "openings", name) for name in OPENINGS],
    *[
        Row("Openings", DIVERSITY[name], "diversity", name)
        for name in ("unique_first_words", "unique_openings")
    ],
    *[Row("Variety", VARIETY[name], "variety", name) for name in VARIETY],
    Row("Variety", DIVERSITY["self_bleu"], "diversity", "self_bleu"),
    *[Row("Fluency", FLUENCY[name], "fluency", name) for name in FLUENCY],
    *[Row("Copying", COPYING[name], "fluency", name) for name in COPYING],
]
SUBJECTS = list(dict.fromkeys(row.subject for row in ROWS))


def verdicts(results: Results) -> Table:
    """Every measure that both families have, by subject."""
    first, *others = families(results)
    rows = []
    for other in others:
        for verdict in judged(results, first, other):
            row = verdict.row
            cells = (
                row.metric.label,
                row.subject,
                *verdict.values,
                estimate(verdict.gap, row.metric.format),
                verdict.words,
                verdict.over_seeds,
            )
            rows.append(cells)
    names = [first.label, *(other.label for other in others[:1])]
    header = ("", "Subject", *names, "Difference", "Verdict", "Over seeds")
    if not results.get("seeds"):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table("verdicts", "What is resolved, and what is not", header, rows, NOTE)


def judged(results: Results, first: Source, other: Source) -> Iterator[Verdict]:
    """The verdict on every measure that both have."""
    for row in ROWS:
        a, b = (_value(source, row) for source in (first, other))
        if a is None or b is None:
            continue
        gap = _gap(results, row, other, a, b)
        words = _words(gap, row, first, other)
        values = (_cell(first, row, a), _cell(other, row, b))
        over = (results.get("seeds") or {}).get("differences", {}).get(other.name, {})
        seeds_gap = over.get(f"{row.group}.{row.name}")
        over_seeds = _words(seeds_gap, row, first, other) if seeds_gap else MISSING
        yield Verdict(row, values, gap, words, over_seeds)


def in_words(results: Results, first: Source, other: Source) -> str:
    """One sentence: the subjects, with how many of their measures are resolved."""
    counts: dict[str, list[bool]] = {}
    for verdict in judged(results, first, other):
        words = verdict.words if verdict.over_seeds == MISSING else verdict.over_seeds
        is_resolved = not words.startswith(NOT_RESOLVED)
        counts.setdefault(verdict.row.subject, []).append(is_resolved)
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


def _cell(source: Source, row: Row, value: dict[str, Any]) -> str:
    """The value as its own table has it: a bound is printed as one."""
    if row.group == "likelihood":
        return bound(source.numbers["likelihood"], value["value"])
    return estimate(value, row.metric.format)


def _value(source: Source, row: Row) -> dict[str, Any] | None:
    numbers = source.numbers
    if row.group == "convergence":
        curve = [p for p in numbers.get("curve") or [] if p.get("nats_per_token")]
        if len(curve) < 2 or not curve[-1].get("step"):
            return None
        best = min(curve, key=lambda point: point["nats_per_token"])
        return {"value": best["step"] / curve[-1]["step"]}
    value = (numbers.get(row.group) or {}).get(row.name)
    if isinstance(value, Mapping):
        return dict(value)
    return None if value is None else {"value": value}


def _gap(
    results: Results, row: Row, other: Source, a: dict[str, Any], b: dict[str, Any]
) -> Mapping[str, Any] | None:
    if row.group == "likelihood":
        pairs = (results.get("differences") or {}).get("nats_per_token") or {}
        return pairs.get(other.name)
    return difference(a, b)


def _words(
    gap: Mapping[str, Any] | None, row: Row, first: Source, other: Source
) -> str:
    if gap is None:
        is_scored = row.group == "likelihood"
        return f"{NOT_RESOLVED} ({'no common windows' if is_scored else 'one run'})"
    if not excludes_zero(gap):
        return NOT_RESOLVED
    higher, lower = (other, first) if gap["value"] > 0 else (first, other)
    if row.group == "likelihood" and higher.is_bound:
        return f"{NOT_RESOLVED} ({higher.label} is a bound)"
    return f"{higher.label} > {lower.label}"
