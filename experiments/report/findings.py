"""The findings of a report: sentences that follow from numbers and intervals."""

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
    is_number,
    number,
)
from experiments.report.sampler_likelihood import points, scored_samplers
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
    """A finding of the report: its subject, and one or two sentences."""

    title: str
    text: str


def findings(results: Results) -> list[Finding]:
    """All findings: every other family compared with the first."""
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
    """The caveat of the report: what its intervals do not cover."""
    seeds = (results.get("seeds") or {}).get("seeds", [])
    if len(seeds) > 1:
        return (
            f"{len(seeds)} runs of each family, with seeds "
            f"{', '.join(map(str, seeds))}: intervals of one run are over samples and "
            "draws; intervals over seeds are t-intervals, which are wide for few seeds."
        )
    return (
        f"One run of each family, with seed {results.get('seed', MISSING)}: the "
        "intervals are over samples and over draws, not over seeds. A resolved "
        "difference may therefore be specific to this run."
    )


def likelihood(first: Source, other: Source, results: Results) -> str:
    """Which family needs fewer nats; a bound can only show that a model is better."""
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
        text += "from bounds alone it is not known which model is better."
    elif a["high"] < b["low"] and other.is_bound:
        text += f"the bound is {gap} above {first.label}'s exact value. " + (
            _slack(other, results)
            or "It is not known how much of this gap is due to the model and how much "
            "to the bound."
        )
    elif b["high"] < a["low"]:
        value = "even its bound is" if other.is_bound else "its value is"
        text += f"{other.label} is the better model of this text: {value} {gap} lower."
    elif a["high"] < b["low"]:
        text += f"{first.label} is the better model of this text, by {gap} nats."
    else:
        text += "the draws do not resolve the difference."
    source = source_entropy(results)
    if source is not None:
        text += f" The source of the text needs {number(source)}."
    return text


def _slack(family: Source, results: Results) -> str:
    """How much of a bound is slack, and the best exact value, where they are known.

    Of several samplers in random order the one whose NELBO is nearest to the bound is
    named.
    """
    nats = family.numbers["likelihood"]["nats_per_token"]
    found = [p for p in points(results) if p.family.name == family.name]
    sentences = []
    random = [point for point in found if is_number(point.found.get("nelbo"))]
    if random:
        near = min(random, key=lambda point: abs(point.found["nelbo"] - nats))
        slack = near.found["nelbo"] - near.found["certified"]
        sentences.append(
            f"With the setting {near.setting} the NELBO is "
            f"{number(near.found['nelbo'])}, and the likelihood at most "
            f"{number(near.found['certified'])} with 95% confidence "
            f"({near.found['num_orders']} orders): {number(slack)} nats are slack."
        )
    found += scored_samplers(family)
    exact = [point for point in found if point.found["kind"] == "exact"]
    if exact:
        best = min(exact, key=lambda point: point.found["nats_per_token"])
        sentences.append(
            f"The setting {best.setting} has an exact likelihood: "
            f"{number(best.found['nats_per_token'])} nats per token of "
            f"{best.found['num_windows']} windows, in {best.found['nfe']:,.0f} calls."
        )
    return " ".join(sentences)


def speed(first: Source, other: Source, results: Results) -> str:
    """The ratio of training throughputs."""
    a, b = (
        f.numbers.get("training", {}).get("tokens_per_second") for f in (first, other)
    )
    if not a or not b:
        return ""
    machine = results.get("machine", {})
    devices = ", ".join(sorted(set(machine.get("devices") or []))) or "this machine"
    shares = sorted({f.numbers.get("num_threads") or 0 for f in (first, other)})
    cores = machine.get("num_cores") or 0
    if 0 < shares[0] and shares[-1] < cores:
        each = " or ".join(map(str, shares))
        devices += f"; side by side, each on {each} of {cores} cores"
    return (
        f"{other.label} trains at {100 * b / a:.1f}% of {first.label}'s speed: "
        f"{b:,.0f} against {a:,.0f} tokens per second ({devices}; one run of each "
        "family, no interval)."
    )


def convergence(family: Source) -> str:
    """At which step the validation loss was lowest, and how much it rose after it."""
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
        f"{name} is lowest at step {best['step']:,} of {last['step']:,} and is "
        f"{number(rise)} higher at the end"
    )
    errors = [point.get("standard_error") or 0.0 for point in (best, last)]
    is_resolved = rise > Z_95 * sum(error**2 for error in errors) ** 0.5
    return text + (
        "." if is_resolved else ", a difference that the draws do not resolve."
    )


def openings(first: Source, other: Source, corpus: Source) -> str:
    """Number of distinct openings, and their distance from those of the corpus."""
    text = _compare("unique_openings", "diversity", first, other, corpus)
    if text:
        text = f"Distinct five-word openings per text: {text} "
    a, b = (
        s.numbers.get("openings", {}).get("opening_distance") for s in (first, other)
    )
    if not a or not b:
        return text
    values = f"{first.label} {estimate(a)}; {other.label} {estimate(b)}"
    if not is_resolved(a, b):
        claim = (
            "It is not resolved whose distribution of first words is closer to the "
            "corpus"
        )
    else:
        nearer = first if a["value"] < b["value"] else other
        claim = f"{nearer.label}'s distribution of first words is closer to the corpus"
    text = f"{text}{claim} (distance: {values})."
    tests = [_differs_from_corpus(source) for source in (first, other)]
    return " ".join([text, *filter(None, tests)])


def _differs_from_corpus(source: Source) -> str:
    """Whether the five-word openings differ from those of the corpus."""
    rows = (source.numbers.get("openings_by_length") or {}).get("5", {})
    own, floor = rows.get("jensen_shannon"), rows.get("jensen_shannon_floor")
    if not own or not floor:
        return ""
    verb = "differ" if own["value"] > floor["high"] else "cannot be distinguished"
    return (
        f"{source.label}'s five-word openings {verb} from those of the corpus "
        f"(Jensen-Shannon distance {number(own['value'])}; samples of the corpus "
        f"itself reach {number(floor['high'])})."
    )


def variety(first: Source, other: Source, corpus: Source) -> str:
    """In how many measures of variety the families differ."""
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
        "measures of variety, by 95% intervals of the differences."
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
            f" {first.label} differs from held-out text in {far_a} of {len(shared)} "
            f"measures, {other.label} in {far_b}."
        )
    return text


def fluency(first: Source, other: Source, corpus: Source) -> str:
    """The families in the strictest fluency measure that both have."""
    for name in ("accepted_share", "seen_4gram_share", "known_word_share"):
        text = _compare(name, "fluency", first, other, corpus)
        if text:
            return f"{FLUENCY[name].label}: {text}"
    return ""


def copying(first: Source, other: Source, corpus: Source) -> str:
    """Length of the runs of words that samples share with the training text."""
    return _compare("longest_copied_run", "fluency", first, other, corpus)


def is_resolved(a: Estimates, b: Estimates) -> bool:
    """Whether 0 is outside the 95% interval of the difference."""
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
    return f"{values}. {higher.label}'s value is higher."
