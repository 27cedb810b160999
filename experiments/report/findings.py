"""What the numbers say, in sentences: no more than their intervals allow."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.report.comparisons import in_words
from experiments.report.format import (
    COPYING,
    DIVERSITY,
    FLUENCY,
    MISSING,
    bound,
    difference,
    estimate,
    excludes_zero,
    number,
)
from experiments.report.series import (
    Results,
    Source,
    families,
    held_out,
    source_entropy,
)
from lm_jax.evaluation.intervals import Z_95

Estimates = Mapping[str, Any]


class Finding(NamedTuple):
    """A claim of a report: its subject, and one or two sentences."""

    title: str
    text: str


def findings(results: Results) -> list[Finding]:
    """The headline of a report: every other family against the first."""
    first, *others = families(results)
    corpus = held_out(results)
    found = []
    for other in others:
        of = f" of {other.label}" if len(others) > 1 else ""
        found += [
            Finding(f"Likelihood{of}", likelihood(first, other, results)),
            Finding(f"Training speed{of}", speed(first, other, results)),
            Finding(f"Openings{of}", openings(first, other, corpus)),
            Finding(f"Variety{of}", variety(first, other, corpus)),
            Finding(f"Fluency{of}", fluency(first, other, corpus)),
            Finding(f"Copying{of}", copying(first, other, corpus)),
            Finding(f"Resolved{of}", in_words(results, first, other)),
        ]
    ends = [convergence(family) for family in (first, *others)]
    found.append(Finding("Convergence", " ".join(filter(None, ends))))
    return [finding for finding in found if finding.text]


def caveat(results: Results) -> str:
    """What no interval of this report covers."""
    seeds = (results.get("seeds") or {}).get("seeds", [])
    if len(seeds) > 1:
        return (
            f"{len(seeds)} runs of each family, with seeds "
            f"{', '.join(map(str, seeds))}: intervals of one run are over stories and "
            "draws; those called over seeds are t-intervals, wide as seeds are few."
        )
    return (
        f"One run of each family, with seed {results.get('seed', MISSING)}: the "
        "intervals are over stories and over draws, not over seeds, and a difference "
        "called resolved may still be one of this run."
    )


def likelihood(first: Source, other: Source, results: Results) -> str:
    """Who needs fewer nats; a bound can prove a model better, but never worse."""
    a, b = (f.numbers.get("likelihood", {}) for f in (first, other))
    if not a or not b:
        return ""
    nats_a, nats_b = a["nats_per_token"], b["nats_per_token"]
    gap = number(abs(nats_b - nats_a))
    text = (
        f"{first.label} needs {bound(a, nats_a)} nats per token, "
        f"{other.label} {bound(b, nats_b)}: "
    )
    if first.is_bound:
        text += "bounds do not say which model is the better one."
    elif a["high"] < b["low"] and other.is_bound:
        text += (
            f"the bound lies {gap} above {first.label}'s exact value, and how much of "
            "that is the model and how much the bound is not known."
        )
    elif b["high"] < a["low"]:
        even = "even its bound lies" if other.is_bound else "that is"
        text += f"{other.label} is the better model of this text, {even} {gap} below."
    elif a["high"] < b["low"]:
        text += f"{first.label} is the better model of this text, by {gap}."
    else:
        text += "a difference that the draws do not resolve."
    source = source_entropy(results)
    if source is not None:
        text += f" The source that wrote the text needs {number(source)}."
    return text


def speed(first: Source, other: Source, results: Results) -> str:
    """The ratio of training throughputs."""
    a, b = (
        f.numbers.get("training", {}).get("tokens_per_second") for f in (first, other)
    )
    if not a or not b:
        return ""
    machine = results.get("machine", {})
    devices = ", ".join(sorted(set(machine.get("devices") or []))) or "this machine"
    return (
        f"{other.label} trains at {100 * b / a:.1f}% of {first.label}'s speed: "
        f"{b:,.0f} against {a:,.0f} tokens per second ({devices}; one run of each, no "
        "interval)."
    )


def convergence(family: Source) -> str:
    """Whether the validation loss was lowest at the end, if the draws can tell."""
    points = family.numbers.get("curve") or []
    points = [point for point in points if point.get("nats_per_token") is not None]
    if len(points) < 2:
        return ""
    best, last = min(points, key=lambda p: p["nats_per_token"]), points[-1]
    name = f"{family.label}'s {'bound' if family.is_bound else 'loss'}"
    if best is last:
        return f"{name} is lowest at the last evaluation, step {last['step']:,}."
    rise = last["nats_per_token"] - best["nats_per_token"]
    text = (
        f"{name} is lowest at step {best['step']:,} of {last['step']:,} and ends "
        f"{number(rise)} higher"
    )
    errors = [point.get("standard_error") or 0.0 for point in (best, last)]
    is_resolved = rise > Z_95 * sum(error**2 for error in errors) ** 0.5
    return text + ("." if is_resolved else ", which the draws do not resolve.")


def openings(first: Source, other: Source, corpus: Source) -> str:
    """How many different openings, and how near to those of the corpus."""
    text = _compare("unique_openings", "diversity", first, other, corpus)
    if text:
        text = f"Distinct five-word openings per story: {text} "
    a, b = (
        s.numbers.get("openings", {}).get("opening_distance") for s in (first, other)
    )
    if not a or not b:
        return text
    values = f"{first.label} {estimate(a)}; {other.label} {estimate(b)}"
    if not is_resolved(a, b):
        claim = (
            "Whose first words are distributed more like the corpus's is not resolved"
        )
    else:
        nearer = first if a["value"] < b["value"] else other
        claim = f"{nearer.label}'s first words are distributed more like the corpus's"
    text = f"{text}{claim} (distance: {values})."
    told = [_told_apart(source) for source in (first, other)]
    return " ".join([text, *filter(None, told)])


def _told_apart(source: Source) -> str:
    """Whether openings of five words show that they are not the corpus's own."""
    rows = (source.numbers.get("openings_by_length") or {}).get("5", {})
    own, floor = rows.get("jensen_shannon"), rows.get("jensen_shannon_floor")
    if not own or not floor:
        return ""
    verb = "differ" if own["value"] > floor["high"] else "cannot be told"
    return (
        f"{source.label}'s five-word openings {verb} from the corpus's (Jensen-Shannon "
        f"distance {number(own['value'])}; the corpus's own samples reach "
        f"{number(floor['high'])})."
    )


def variety(first: Source, other: Source, corpus: Source) -> str:
    """Which measures of variety tell the families apart, and which do not."""
    a, b, reference = (
        source.numbers.get("diversity") or {} for source in (first, other, corpus)
    )
    names = [name for name in DIVERSITY if a.get(name) and b.get(name)]
    if not names:
        return ""
    unresolved = [name for name in names if not is_resolved(a[name], b[name])]
    num_resolved = len(names) - len(unresolved)
    text = (
        f"{first.label} and {other.label} differ in {num_resolved} of {len(names)} "
        "measures, by the 95% intervals of the differences."
    )
    if unresolved:
        labels = ", ".join(DIVERSITY[name].label for name in unresolved)
        text += f" Not resolved: {labels}."
    shared = [name for name in names if reference.get(name)]
    if shared:
        far_a, far_b = (
            sum(is_resolved(row[name], reference[name]) for name in shared)
            for row in (a, b)
        )
        text += (
            f" From held-out text {first.label} differs in {far_a} of {len(shared)}, "
            f"{other.label} in {far_b}."
        )
    return text


def fluency(first: Source, other: Source, corpus: Source) -> str:
    """The strictest measure of fluency that both families have."""
    for name in ("accepted_share", "seen_4gram_share", "known_word_share"):
        text = _compare(name, "fluency", first, other, corpus)
        if text:
            return f"{FLUENCY[name].label}: {text}"
    return ""


def copying(first: Source, other: Source, corpus: Source) -> str:
    """How long the runs are that stories share with the training text."""
    return _compare("longest_copied_run", "fluency", first, other, corpus)


def is_resolved(a: Estimates, b: Estimates) -> bool:
    """Whether 0 lies outside the 95% interval of the difference."""
    return excludes_zero(difference(a, b))


def _compare(name: str, group: str, *columns: Source) -> str:
    """The values of each source, and whether the first two differ."""
    first, other, corpus = columns
    rows = [source.numbers.get(group, {}).get(name) for source in columns]
    a, b, _ = rows
    if not a or not b:
        return ""
    spec = (DIVERSITY | FLUENCY | COPYING)[name].format
    labels = (first.label, other.label, corpus.label.lower())
    values = "; ".join(
        f"{label} {estimate(value, spec)}"
        for label, value in zip(labels, rows, strict=True)
        if value
    )
    if not is_resolved(a, b):
        pair = f"{first.label} and {other.label}"
        return f"{values}. The difference between {pair} is not resolved."
    higher = first if a["value"] > b["value"] else other
    return f"{values}. {higher.label}'s is higher."
