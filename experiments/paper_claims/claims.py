"""Tables: each claim of the paper, and what was measured under both protocols."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.ablation import report
from experiments.paper_claims.measurements import (
    LABELS,
    PROTOCOLS,
    MeasurementSource,
    Protocol,
    best_share,
    read,
    stored_json,
)
from experiments.repeated_data import report as repeated
from experiments.report import published
from experiments.report.table import markdown_rows
from lm_jax.evaluation.intervals import Estimate, difference, t_interval

RESULTS = Path(__file__).parents[1] / "results"
BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"
MISSING = "–"


class Claim(NamedTuple):
    """A claim of the paper: a metric of both families, and the published values.

    Attributes:
      text: printed name of the metric.
      metric: name of the metric in the results.
      published: values in the paper for AR and MDLM; None if it gives none.
      form: number format.
    """

    text: str
    metric: str
    published: tuple[float, float] | None
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
        "step of the lowest validation loss / all steps",
        "best_step_share",
        _best_shares(),
    ),
    Claim(
        "share of the most frequent first word", "share_of_commonest_first_word", None
    ),
    Claim("share of the most frequent opening", "share_of_commonest_opening", None),
    Claim("distance of first words from the corpus", "opening_distance", None),
    Claim(
        "distinct first words / texts",
        "unique_first_words",
        TABLE_4["unique_first_words"],
    ),
    Claim("distinct openings / texts", "unique_openings", TABLE_4["unique_openings"]),
    Claim("Distinct-4", "distinct_4", TABLE_4["distinct_4"]),
    Claim("Self-BLEU", "self_bleu", TABLE_4["self_bleu"]),
)

MEASUREMENT_SOURCES = (
    MeasurementSource(
        "TinyStories at the paper's size, one GPU",
        runs=("published_gpu_tinystories", "controlled_gpu_tinystories"),
    ),
    MeasurementSource(
        "Storyworld at the paper's size, one GPU",
        runs=("published_gpu_storyworld", "controlled_gpu_storyworld"),
    ),
    MeasurementSource("TinyStories at 0.4M parameters, CPU", study="study_tinystories"),
    MeasurementSource("Storyworld at 0.4M parameters, CPU", study="study_storyworld"),
)


# Results of experiments.repeated_data. The paper trained for 6.5 epochs: 328M tokens,
# 50M tokens of text.
REPEATED = "data_constrained"


def markdown(root: Path = RESULTS) -> str:
    """The tables of all claims, one for each source that has measurements."""
    parts = []
    for source in MEASUREMENT_SOURCES:
        found = {name: read(root, source, name) for name in PROTOCOLS}
        if any(found.values()):
            parts += [f"### {source.title}", _provenance(root, source), _rows(found)]
    return "\n\n".join([*parts, *_convergence(root)])


def _convergence(root: Path) -> list[str]:
    """The step of the lowest loss of each family, by number of epochs."""
    title = "### Convergence on repeated data: storyworld, 0.4M parameters, CPU"
    stored = stored_json(root / REPEATED / "data_constrained.json")
    if stored is None:
        return []
    (claim,) = (claim for claim in CLAIMS if claim.metric == "best_step_share")
    lines = []
    for share in repeated.shares(stored, "plain"):
        means, gap = _best_steps(stored, share)
        lines.append(
            [
                f"{repeated.epochs(stored, 'plain', share):.1f} epochs",
                _pair(claim, claim.published),
                _pair(claim, means),
                _gap(claim, gap),
                verdict(claim, gap),
                *(
                    report.plain(repeated.overfitting(stored, "plain", share, x))
                    for x in LABELS
                ),
            ]
        )
    header = ["step of the lowest validation loss / all steps", "the paper: AR, MDLM"]
    header += ["here: AR, MDLM", "MDLM - AR", "result"]
    header += [f"{x}: last loss - lowest" for x in LABELS]
    source = (
        f"[{REPEATED}]({REPEATED}/data_constrained.md): `{stored['command']}`; "
        f"{len(stored['seeds'])} seeds; {stored['machine']['cpu']}; jax "
        f"{stored['versions']['jax']}; commit {stored['commit']}."
    )
    return [title, source, markdown_rows(header, lines)]


def _best_steps(
    stored: dict[str, Any], share: int
) -> tuple[tuple[float, float], Estimate]:
    """Share of the step with the lowest loss: mean of each family, and MDLM - AR."""
    ar, mdlm = (
        np.array([best_share(c["curves"]["validation"]) for c in group])
        for group in (repeated.cells_of(stored, "plain", share, x) for x in LABELS)
    )
    return (float(ar.mean()), float(mdlm.mean())), t_interval(mdlm - ar)


def verdict(claim: Claim, gap: Estimate | None) -> str:
    """Whether a claim holds, by the interval of MDLM - AR.

    "holds": resolved, with the published sign; "reversed": with the opposite sign.
    """
    if gap is None:
        return MISSING
    if not np.isfinite(gap.low):
        return "unresolved: one seed"
    if gap.low == gap.high == 0.0:
        return "no difference in any seed"
    if gap.low <= 0.0 <= gap.high:
        return "unresolved"
    is_higher = gap.low > 0.0
    if claim.published is None:
        return f"MDLM {'higher' if is_higher else 'lower'}"
    return (
        "holds"
        if is_higher == (claim.published[1] > claim.published[0])
        else "reversed"
    )


def gap_of(found: Protocol | None, metric: str) -> Estimate | None:
    """MDLM - AR: paired by seed; for one seed, from both intervals over samples."""
    if found is None or any(metric not in found[label] for label in LABELS):
        return None
    ar, mdlm = (found[label][metric] for label in LABELS)
    if len(ar) == 1:
        return difference(mdlm[0], ar[0])
    return t_interval(
        np.array([b.value - a.value for a, b in zip(ar, mdlm, strict=True)])
    )


def _rows(found: Mapping[str, Protocol | None]) -> str:
    header = ["", "the paper: AR, MDLM"]
    for name in PROTOCOLS:
        header += [f"`{name}` here: AR, MDLM", "MDLM - AR", f"`{name}`: result"]
    lines = []
    for claim in CLAIMS:
        line = [claim.text, _pair(claim, claim.published)]
        for name in PROTOCOLS:
            gap, protocol = gap_of(found[name], claim.metric), found[name]
            means = None
            if gap is not None and protocol is not None:
                means = tuple(
                    float(np.mean([e.value for e in protocol[label][claim.metric]]))
                    for label in LABELS
                )
            line += [
                MISSING if means is None else _pair(claim, means),
                "" if gap is None else _gap(claim, gap),
                verdict(claim, gap),
            ]
        lines.append(line)
    return markdown_rows(header, lines)


def _pair(claim: Claim, values: tuple[float, ...] | None) -> str:
    if values is None:
        return "not given"
    return ", ".join(f"{value:{claim.form}}" for value in values)


def _gap(claim: Claim, gap: Estimate) -> str:
    form = "+" + claim.form
    ends = f" [{gap.low:{form}}, {gap.high:{form}}]" if np.isfinite(gap.low) else ""
    return f"{gap.value:{form}}{ends}"


def _provenance(root: Path, source: MeasurementSource) -> str:
    """Command, seeds, machine, versions and commit of the measurements."""
    names = [source.study] if source.study else source.runs
    lines = []
    for name in names:
        stored = stored_json(
            root / name / ("study.json" if source.study else "results.json")
        )
        if stored is None:
            continue
        seeds = stored.get("seeds") or [stored["seed"]]
        seeds = seeds["seeds"] if isinstance(seeds, dict) else seeds
        devices = ", ".join(stored["machine"]["devices"])
        lines.append(
            f"[{name}]({name}): `{stored['command']}`; {len(seeds)} "
            f"seed{'s' * (len(seeds) > 1)}; {stored['machine']['cpu']}, {devices}; jax "
            f"{stored['versions']['jax']}; commit {stored['commit']}."
        )
    for protocol in PROTOCOLS if source.study else ():
        timed = stored_json(root / source.speed(protocol))
        if timed is not None:
            (part,) = timed["training"]["shapes"]
            lines.append(
                f"Speed of `{protocol}`: `{timed['command']}`; "
                f"{part['families']['ar']['repeats']} alternating rounds; commit "
                f"{timed['commit']}."
            )
    return "\n".join(lines)
