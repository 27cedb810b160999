"""The first screen: one tile per claim, with who is ahead, by how much, how certain.

A tile states a difference of two families in one measure. Its mark is the 95% interval
of that difference, over training seeds if there are several.
"""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments.report.comparisons import NOT_RESOLVED, Comparison, comparisons
from experiments.report.format import MISSING, is_number, number
from experiments.report.series import Results, Source, families, held_out

WIDTH = 88  # columns on a terminal
RESOLVED = "(resolved: the 95% interval of the difference leaves out zero)"


class Tile(NamedTuple):
    """The answer to one question.

    Attributes:
      title: subject of the tile.
      answer: who is ahead, and by how much.
      state: "resolved", or "not resolved" and the reason.
      values: the measure, and its value for each family and for held-out text.
      mark: (low, value, high) of the difference, the other family minus the first, in
        -1 to 1, where 0 is no difference; None without an interval.
    """

    title: str
    answer: str
    state: str
    values: str
    mark: tuple[float, float, float] | None = None

    @property
    def is_resolved(self) -> bool:
        return self.state == "resolved"


Answer = Callable[[Source, Source, float, float], str]


def _speed(first: Source, other: Source, a: float, b: float) -> str:
    fast, slow, ratio = (first, other, a / b) if a >= b else (other, first, b / a)
    return f"{fast.label} trains {ratio:.2f} times as fast as {slow.label}"


def _convergence(first: Source, other: Source, a: float, b: float) -> str:
    ends = [
        f"{source.label} at {'the end' if share == 1.0 else f'{share:.0%} of the run'}"
        for source, share in ((first, a), (other, b))
    ]
    if a == b == 1.0:
        return f"{first.label} and {other.label} are both best at the end of the run"
    return f"Best validation: {', '.join(ends)}"


def _likelihood(first: Source, other: Source, a: float, b: float) -> str:
    low, high = (first, other) if a <= b else (other, first)
    names = [f"{s.label}'s bound" if s.is_bound else s.label for s in (low, high)]
    return f"{names[0]} is {number(abs(b - a))} nats per token below {names[1]}"


def _exact(first: Source, other: Source, a: float, b: float) -> str:
    low, high = (first, other) if a <= b else (other, first)
    of = [
        f" with the sampler {name}"
        if (name := s.numbers["exact_of"]["sampler"])
        else ""
        for s in (low, high)
    ]
    gap = number(abs(b - a))
    return f"{low.label}{of[0]} is {gap} nats per token below {high.label}{of[1]}"


def _ahead(what: str) -> Answer:
    """Answer of a measure of which more is better."""

    def answer(first: Source, other: Source, a: float, b: float) -> str:
        if a == b:
            return f"{first.label} and {other.label} are equal"
        leader = other if b > a else first
        return f"{leader.label} {what}, by {number(abs(b - a))}"

    return answer


# Title, key of the measure in results.json, and its answer. Of several entries with one
# title the first that both families have is shown.
QUESTIONS: list[tuple[str, str, str, Answer]] = [
    ("Training speed", "training", "tokens_per_second", _speed),
    ("Convergence", "convergence", "best_step_share", _convergence),
    (
        "Openings",
        "diversity",
        "unique_openings",
        _ahead("has more distinct openings"),
    ),
    ("Likelihood", "exact", "nats_per_token", _exact),
    ("Likelihood", "likelihood", "nats_per_token", _likelihood),
    (
        "Fluency",
        "fluency",
        "accepted_share",
        _ahead("has more stories that the grammar accepts"),
    ),
    (
        "Fluency",
        "fluency",
        "seen_4gram_share",
        _ahead("has more 4-grams of the training text"),
    ),
]


def tiles(results: Results) -> list[Tile]:
    """The tiles of every other family, compared with the first."""
    first, *others = families(results)
    found = []
    for other in others:
        of = f" of {other.label}" if len(others) > 1 else ""
        measured = {
            (c.measure.group, c.measure.name): c
            for c in comparisons(results, first, other)
            if all(map(is_number, c.numbers))
        }
        shown = {
            title: _tile(title + of, measured[group, name], answer, results, other)
            for title, group, name, answer in reversed(QUESTIONS)
            if (group, name) in measured
        }
        titles = dict.fromkeys(title for title, *_ in QUESTIONS)
        found += [shown[title] for title in titles if title in shown]
    return found


def _tile(
    title: str, found: Comparison, answer: Answer, results: Results, other: Source
) -> Tile:
    first = families(results)[0]
    words = found.words if found.over_seeds == MISSING else found.over_seeds
    measure, gap = found.measure, found.gap
    if found.over_seeds != MISSING:
        over = results["seeds"]["differences"][other.name]
        gap = over[f"{measure.group}.{measure.name}"]
    values = f"{measure.metric.label}: {first.label} {found.values[0]}, "
    values += f"{other.label} {found.values[1]}"
    human = (held_out(results).numbers.get(measure.group) or {}).get(measure.name)
    if isinstance(human, Mapping) and is_number(human.get("value")):
        values += f", held-out text {number(human['value'], measure.metric.format)}"
    return Tile(
        title,
        answer(first, other, *found.numbers),
        words if words.startswith(NOT_RESOLVED) else "resolved",
        values,
        _mark(gap),
    )


def _mark(gap: Mapping[str, Any] | None) -> tuple[float, float, float] | None:
    if not gap or not all(is_number(gap.get(x)) for x in ("low", "value", "high")):
        return None
    low, value, high = gap["low"], gap["value"], gap["high"]
    scale = max(abs(low), abs(high)) or 1.0
    return low / scale, value / scale, high / scale


def to_text(results: Results) -> str:
    """The tiles for a terminal: two or three lines each."""
    lines = []
    for tile in tiles(results):
        lines.append(f"{tile.title}: {tile.answer}; {tile.state}.")
        lines += textwrap.wrap(
            tile.values, WIDTH, initial_indent="  ", subsequent_indent="  "
        )
    lines.append(RESOLVED)
    return "\n".join(lines)
