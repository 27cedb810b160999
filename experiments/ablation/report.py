"""study.md: the tables and the verdict of experiments.ablation, from study.json alone.

python -m experiments.ablation.report experiments/results/study_storyworld
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lm_jax import command_line, files
from lm_jax.config import require
from lm_jax.evaluation.intervals import Estimate, t_interval

COLUMNS = {
    "share_of_commonest_first_word": "commonest first word",
    "share_of_commonest_opening": "commonest opening",
    "opening_entropy": "entropy of openings, nats",
    "opening_distance": "distance of first words",
    "opening_distance_5": "distance of openings",
    "unique_first_words": "distinct first words / stories",
    "unique_openings": "distinct openings / stories",
    "seen_4gram_share": "4-grams of the training text",
}
# What each factor is compared with, and what it does.
FACTORS = {
    "prompt": "beginning every story with the study's prompt",
    "temperature": "temperature 0.8",
    "sampler": "the study's sampler",
    "windows": "windows cut from one stream",
    "objective": "the study's loss and schedule",
    "head": "an untied head",
    "start": "not marking where a window begins",
    "published": "all of the study's protocol",
}
COLLAPSE = "share_of_commonest_first_word"
SPREAD = "unique_openings"
LABELS = ("AR", "MDLM")


def markdown(study: dict[str, Any]) -> str:
    """The whole of study.md."""
    seeds = study["seeds"]
    intro = (
        f"`{study['command']}`; commit {study['commit']}; corpus "
        f"{study['corpus']['name']}; seeds {', '.join(map(str, seeds))}; "
        f"{study['machine']['cpu']}. "
        f"{study['config']['sample']['num_samples']} stories for each number. An "
        "opening is five words. Brackets are 95% t-intervals over seeds; for held-out "
        "text, over its stories. Distances are total variation to training stories. "
        "Of twenty effects that are none, one is expected to look resolved."
    )
    parts = ["# Which factor collapses openings", intro]
    for label in LABELS:
        parts += [f"## {label}: openings", _openings_table(study, label)]
        parts += [f"## {label}: effect of each factor alone", _effects(study, label)]
    parts += ["## Training", _trainings(study), "## Verdict", verdict(study)]
    return "\n\n".join(parts) + "\n"


def verdict(study: dict[str, Any]) -> str:
    """What moves openings, in words that follow from the intervals."""
    lines = []
    for label in LABELS:
        for metric in (COLLAPSE, SPREAD):
            effects = {
                FACTORS[factor]: effect(study, label, factor, metric)
                for factor in FACTORS
                if _has(study, factor, label)
            }
            for verb, is_so in (
                ("raises", lambda e: e.low > 0.0),
                ("lowers", lambda e: e.high < 0.0),
            ):
                causes = [f"{w} ({signed(e)})" for w, e in effects.items() if is_so(e)]
                what = "; ".join(causes) or "no factor"
                lines.append(f"- {label}: what {verb} the {COLUMNS[metric]}: {what}.")
    for metric in (COLLAPSE, SPREAD, "opening_distance_5"):
        for row in ("controlled", "published"):
            gap = difference(study, metric, row)
            is_resolved = gap.low > 0.0 or gap.high < 0.0
            lines.append(
                f"- The paradigm, `{row}`: MDLM's {COLUMNS[metric]} minus AR's is "
                f"{signed(gap)}, {'resolved' if is_resolved else 'not resolved'}."
            )
    return "\n".join(lines)


def effect(study: dict[str, Any], label: str, row: str, metric: str) -> Estimate:
    """The row minus `controlled`, paired by seed: mean and t-interval."""
    change = values(study, row, label, metric) - values(
        study, "controlled", label, metric
    )
    return t_interval(change)


def difference(study: dict[str, Any], metric: str, row: str = "controlled") -> Estimate:
    """MDLM minus AR in a row, paired by seed."""
    ar, mdlm = (values(study, row, label, metric) for label in LABELS)
    return t_interval(mdlm - ar)


def values(study: dict[str, Any], row: str, label: str, metric: str) -> np.ndarray:
    """One number for each seed."""
    training, writing = study["rows"][row][label]
    return np.array(
        [
            cell["writings"][writing][metric]["value"]
            for cell in study["cells"]
            if (cell["training"], cell["label"]) == (training, label)
        ]
    )


def _openings_table(study: dict[str, Any], label: str) -> str:
    rows = [
        [row, *(plain(t_interval(values(study, row, label, m))) for m in COLUMNS)]
        for row in study["rows"]
        if _has(study, row, label)
    ]
    for windows, found in study["human"].items():
        cells = [plain(Estimate(**found[metric])) for metric in COLUMNS]
        rows.append([f"held-out text, {windows} windows", *cells])
    return table(["", *COLUMNS.values()], rows)


def _effects(study: dict[str, Any], label: str) -> str:
    rows = [
        [
            f"{row}: {FACTORS[row]}",
            *(signed(effect(study, label, row, m)) for m in COLUMNS),
        ]
        for row in FACTORS
        if _has(study, row, label)
    ]
    note = "Each minus `controlled`, paired by seed. Bold where 0 lies outside."
    return note + "\n\n" + table(["", *COLUMNS.values()], rows)


def _trainings(study: dict[str, Any]) -> str:
    note = (
        "Nats on held-out windows of the training's own kind: stream and story windows "
        "are different text: only rows of one kind can be compared. MDLM's are bounds."
    )
    rows = []
    for training, families in study["trainings"].items():
        for label in families:
            found = [
                cell
                for cell in study["cells"]
                if (cell["training"], cell["label"]) == (training, label)
            ]
            sign = "≤ " if label == "MDLM" else ""
            rows.append(
                [
                    f"{training}, {label}",
                    sign + plain(_over(found, lambda c: c["nats_per_token"])),
                    sign + plain(_over(found, lambda c: c["bits_per_byte"])),
                ]
            )
    return note + "\n\n" + table(["", "nats/token", "bits/byte"], rows)


def _over(found: list[dict[str, Any]], number: Callable[[Any], float]) -> Estimate:
    return t_interval(np.array([number(cell) for cell in found]))


def _has(study: dict[str, Any], row: str, label: str) -> bool:
    return label in study["rows"][row]


def plain(e: Estimate) -> str:
    """A value and its interval."""
    return f"{e.value:.3f}{_ends(e, '.3f')}"


def signed(e: Estimate) -> str:
    """A difference and its interval; bold where that leaves zero out."""
    text = f"{e.value:+.3f}{_ends(e, '+.3f')}"
    return f"**{text}**" if e.low > 0.0 or e.high < 0.0 else text


def _ends(e: Estimate, form: str) -> str:
    """Nothing for one seed, which has no interval."""
    return f" [{e.low:{form}}, {e.high:{form}}]" if np.isfinite(e.low) else ""


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown; numbers stand to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read_study(directory: Path) -> dict[str, Any]:
    """The numbers of a finished study.

    Raises:
      ValueError: it is not finished, or the directory is another one.
    """
    path = directory / "study.json"
    require(
        path.is_file(),
        f"{path} does not exist: name the directory of a finished study, or finish it "
        f"with python -m experiments.ablation --workdir={directory}",
    )
    return files.read_json(path)


def main(directory: str) -> None:
    print(markdown(read_study(Path(directory))), end="")


if __name__ == "__main__":
    command_line.run(main, positional="DIR")
