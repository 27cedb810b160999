"""Tables: each claim of the paper, and what was measured under both protocols."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.ablation import report
from experiments.paper_claims.measurements import (
    LABELS,
    PROTOCOLS,
    Evidence,
    Protocol,
    best_share,
    read,
    stored_json,
)
from experiments.repeated_data import report as repeated
from experiments.report import published
from lm_jax.evaluation.intervals import Estimate, difference, t_interval

RESULTS = Path(__file__).parents[1] / "results"
BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"
NOT_RUN = "not run yet"


class Claim(NamedTuple):
    """A number of both families, and how it is printed.

    Attributes:
      text: what it is.
      metric: its name in the results.
      said: what the study published for AR and MDLM; None where it did not say.
      form: of the numbers.
    """

    text: str
    metric: str
    said: tuple[float, float] | None
    form: str = ".3f"


def _best_shares() -> tuple[float, float]:
    ar, mdlm = (
        published.LOSS_STEPS[int(np.argmin(published.LOSS[label]))] for label in LABELS
    )
    last = published.LOSS_STEPS[-1]
    return ar / last, mdlm / last


TABLE_4 = published.DIVERSITY
CLAIMS = (
    Claim(
        "training, tokens/s", "tokens_per_second", published.TOKENS_PER_SECOND, ",.0f"
    ),
    Claim(
        "step of the lowest validation loss / all", "best_step_share", _best_shares()
    ),
    Claim("commonest first word", "share_of_commonest_first_word", None),
    Claim("commonest opening", "share_of_commonest_opening", None),
    Claim("distance of first words to the corpus", "opening_distance", None),
    Claim(
        "distinct first words / stories",
        "unique_first_words",
        TABLE_4["unique_first_words"],
    ),
    Claim("distinct openings / stories", "unique_openings", TABLE_4["unique_openings"]),
    Claim("Distinct-4", "distinct_4", TABLE_4["distinct_4"]),
    Claim("Self-BLEU", "self_bleu", TABLE_4["self_bleu"]),
)

EVIDENCE = (
    Evidence(
        "TinyStories at the study's size, one GPU",
        runs=("published_gpu_tinystories", "controlled_gpu_tinystories"),
    ),
    Evidence(
        "Storyworld at the study's size, one GPU",
        runs=("published_gpu_storyworld", "controlled_gpu_storyworld"),
    ),
    Evidence("TinyStories at 0.4M parameters, CPU", study="study_tinystories"),
    Evidence("Storyworld at 0.4M parameters, CPU", study="study_storyworld"),
)


# Where convergence is followed as the same text is seen again and again: 6.5 times in
# the study, whose 328M tokens of training were 50M of text.
REPEATED = "data_constrained"


def markdown(root: Path = RESULTS) -> str:
    """A table for each body of evidence."""
    parts = []
    for evidence in EVIDENCE:
        found = {name: read(root, evidence, name) for name in PROTOCOLS}
        parts += [f"### {evidence.title}", _source(root, evidence), _rows(found)]
    return "\n\n".join([*parts, *_convergence(root)])


def short(root: Path = RESULTS) -> str:
    """Their first columns on the findings of the study, for the README."""
    wanted = ("tokens_per_second", "best_step_share", "unique_openings")
    chosen = [claim for claim in CLAIMS if claim.metric in wanted]
    kept = (0, 1, 2, 4, 5, 7)
    header, rows = [], []
    for evidence in (evidence for evidence in EVIDENCE if evidence.study):
        found = {name: read(root, evidence, name) for name in PROTOCOLS}
        head, _, *lines = (
            line[2:-2].split(" | ") for line in _rows(found, chosen).splitlines()
        )
        header = [head[i] for i in kept]
        corpus = evidence.title.partition(" ")[0]
        rows += [
            [f"{corpus}: {line[0]}", *(line[i] for i in kept[1:])] for line in lines
        ]
    stored = stored_json(root / REPEATED / "data_constrained.json")
    if stored is not None:
        (claim,) = (claim for claim in chosen if claim.metric == "best_step_share")
        for share in repeated.shares(stored, "plain"):
            means, gap = _best_steps(stored, share)
            times = repeated.epochs(stored, "plain", share)
            if times > 1.5:
                line = [f"Storyworld seen {times:.0f} times: {claim.text}"]
                line += [_pair(claim, claim.said), NOT_RUN, NOT_RUN]
                rows.append([*line, _pair(claim, means), verdict(claim, gap)])
    return report.table(header, rows)


def _convergence(root: Path) -> list[str]:
    """When each family is at its best, by how often it has seen its text."""
    title = "### Convergence where text repeats: storyworld, 0.4M parameters, CPU"
    stored = stored_json(root / REPEATED / "data_constrained.json")
    if stored is None:
        return [title, f"`{REPEATED}`: {NOT_RUN}."]
    (claim,) = (claim for claim in CLAIMS if claim.metric == "best_step_share")
    lines = []
    for share in repeated.shares(stored, "plain"):
        means, gap = _best_steps(stored, share)
        lines.append(
            [
                f"{repeated.epochs(stored, 'plain', share):.1f} epochs",
                _pair(claim, claim.said),
                _pair(claim, means),
                _gap(claim, gap),
                verdict(claim, gap),
                *(
                    report.plain(repeated.overfitting(stored, "plain", share, x))
                    for x in LABELS
                ),
            ]
        )
    header = ["step of the lowest validation loss / all", "the study: AR, MDLM"]
    header += ["here: AR, MDLM", "MDLM - AR", "verdict"]
    header += [f"{x}: last loss - lowest" for x in LABELS]
    source = (
        f"[{REPEATED}]({REPEATED}/data_constrained.md): `{stored['command']}`; "
        f"{len(stored['seeds'])} seeds; {stored['machine']['cpu']}; jax "
        f"{stored['versions']['jax']}; commit {stored['commit']}."
    )
    return [title, source, report.table(header, lines)]


def _best_steps(
    stored: dict[str, Any], share: int
) -> tuple[tuple[float, float], Estimate]:
    """Where each family's loss is lowest, and MDLM - AR over seeds."""
    ar, mdlm = (
        np.array([best_share(c["curves"]["validation"]) for c in group])
        for group in (repeated.cells_of(stored, "plain", share, x) for x in LABELS)
    )
    return (float(ar.mean()), float(mdlm.mean())), t_interval(mdlm - ar)


def verdict(claim: Claim, gap: Estimate | None) -> str:
    """What the interval of MDLM - AR says of what the study published.

    "holds": resolved, and of the published sign; "reversed": of the other one.
    """
    if gap is None:
        return NOT_RUN
    if not np.isfinite(gap.low):
        return "unresolved: one seed"
    if gap.low == gap.high == 0.0:
        return "no difference in any seed"
    if gap.low <= 0.0 <= gap.high:
        return "unresolved"
    is_higher = gap.low > 0.0
    if claim.said is None:
        return f"MDLM {'higher' if is_higher else 'lower'}"
    return "holds" if is_higher == (claim.said[1] > claim.said[0]) else "reversed"


def gap_of(found: Protocol | None, metric: str) -> Estimate | None:
    """MDLM - AR: paired by seed; of a single seed, from both intervals over stories."""
    if found is None or any(metric not in found[label] for label in LABELS):
        return None
    ar, mdlm = (found[label][metric] for label in LABELS)
    if len(ar) == 1:
        return difference(mdlm[0], ar[0])
    return t_interval(
        np.array([b.value - a.value for a, b in zip(ar, mdlm, strict=True)])
    )


def _rows(
    found: Mapping[str, Protocol | None], chosen: Sequence[Claim] = CLAIMS
) -> str:
    header = ["", "the study: AR, MDLM"]
    for name in PROTOCOLS:
        header += [f"`{name}` here: AR, MDLM", "MDLM - AR", f"`{name}`: verdict"]
    lines = []
    for claim in chosen:
        line = [claim.text, _pair(claim, claim.said)]
        for name in PROTOCOLS:
            gap, protocol = gap_of(found[name], claim.metric), found[name]
            means = None
            if gap is not None and protocol is not None:
                means = tuple(
                    float(np.mean([e.value for e in protocol[label][claim.metric]]))
                    for label in LABELS
                )
            line += [
                NOT_RUN if means is None else _pair(claim, means),
                "" if gap is None else _gap(claim, gap),
                verdict(claim, gap),
            ]
        lines.append(line)
    return report.table(header, lines)


def _pair(claim: Claim, values: tuple[float, ...] | None) -> str:
    if values is None:
        return "not measured"
    return ", ".join(f"{value:{claim.form}}" for value in values)


def _gap(claim: Claim, gap: Estimate) -> str:
    form = "+" + claim.form
    ends = f" [{gap.low:{form}}, {gap.high:{form}}]" if np.isfinite(gap.low) else ""
    return f"{gap.value:{form}}{ends}"


def _source(root: Path, evidence: Evidence) -> str:
    """How many seeds, by which command, at which commit."""
    names = [evidence.study] if evidence.study else evidence.runs
    lines = []
    for name in names:
        stored = stored_json(
            root / name / ("study.json" if evidence.study else "results.json")
        )
        if stored is None:
            lines.append(f"`{name}`: {NOT_RUN}.")
            continue
        seeds = stored.get("seeds") or [stored["seed"]]
        seeds = seeds["seeds"] if isinstance(seeds, dict) else seeds
        devices = ", ".join(stored["machine"]["devices"])
        lines.append(
            f"[{name}]({name}): `{stored['command']}`; {len(seeds)} "
            f"seed{'s' * (len(seeds) > 1)}; {stored['machine']['cpu']}, {devices}; jax "
            f"{stored['versions']['jax']}; commit {stored['commit']}."
        )
    for protocol in PROTOCOLS if evidence.study else ():
        timed = stored_json(root / evidence.speed(protocol))
        if timed is not None:
            (part,) = timed["training"]["shapes"]
            lines.append(
                f"Speed of `{protocol}`: `{timed['command']}`; "
                f"{part['families']['ar']['repeats']} rounds in turns; commit "
                f"{timed['commit']}."
            )
    return "\n".join(lines)
