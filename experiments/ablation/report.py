"""study.md: tables and conclusions of experiments.ablation, from study.json alone.

python -m experiments.ablation.report experiments/results/study_storyworld
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.report.table import markdown_rows
from lm_jax import command_line, files
from lm_jax.config import require
from lm_jax.evaluation.intervals import Estimate, t_interval

COLUMNS = {
    "share_of_commonest_first_word": "share of the most frequent first word",
    "share_of_commonest_opening": "share of the most frequent opening",
    "opening_entropy": "entropy of openings, nats",
    "opening_distance": "distance of first words from the corpus",
    "opening_distance_5": "distance of openings from the corpus",
    "unique_first_words": "distinct first words / texts",
    "unique_openings": "distinct openings / texts",
    "seen_4gram_share": "4-grams in the training text",
}
# What each factor changes.
FACTORS = {
    "prompt": "the paper's prompt for every sample",
    "temperature": "temperature 0.8",
    "sampler": "the paper's sampler",
    "windows": "windows cut from one stream of text",
    "objective": "the paper's loss and schedule",
    "head": "an untied head",
    "start": "no BOS at the start of a window",
    "published": "the whole protocol of the paper",
}
COLLAPSE = "share_of_commonest_first_word"
SPREAD = "unique_openings"
LABELS = ("AR", "MDLM")


def markdown(study: dict[str, Any]) -> str:
    """The content of study.md."""
    seeds = study["seeds"]
    intro = (
        f"`{study['command']}`; commit {study['commit']}; corpus "
        f"{study['corpus']['name']}; seeds {', '.join(map(str, seeds))}; "
        f"{study['machine']['cpu']}. "
        f"{study['config']['sample']['num_samples']} samples for each number. An "
        "opening is five words. Brackets are 95% t-intervals over seeds; for held-out "
        "text, 95% intervals over documents. Distances are total variation distances "
        "from the training documents. If no factor has an effect, one effect of twenty "
        "is expected to look resolved by chance."
    )
    parts = ["# Which factor makes openings collapse", intro]
    for label in LABELS:
        parts += [f"## {label}: openings", _openings_table(study, label)]
        parts += [f"## {label}: effect of each factor alone", _effects(study, label)]
    parts += ["## Training", _trainings(study), "## Conclusions", verdict(study)]
    return "\n\n".join(parts) + "\n"


def verdict(study: dict[str, Any]) -> str:
    """Sentences about the factors that change openings, from the intervals."""
    lines = []
    for label in LABELS:
        for metric in (COLLAPSE, SPREAD):
            effects = {
                FACTORS[factor]: effect(study, label, factor, metric)
                for factor in FACTORS
                if _has(study, factor, label)
            }
            for verb, is_so in (
                ("raised", lambda e: e.low > 0.0),
                ("lowered", lambda e: e.high < 0.0),
            ):
                causes = [f"{w} ({signed(e)})" for w, e in effects.items() if is_so(e)]
                what = "; ".join(causes) or "no factor"
                lines.append(f"- {label}, {COLUMNS[metric]}: {verb} by {what}.")
    for metric in (COLLAPSE, SPREAD, "opening_distance_5"):
        for row in ("controlled", "published"):
            gap = difference(study, metric, row)
            is_resolved = gap.low > 0.0 or gap.high < 0.0
            lines.append(
                f"- `{row}`, MDLM minus AR, {COLUMNS[metric]}: {signed(gap)}, "
                f"{'resolved' if is_resolved else 'not resolved'}."
            )
    return "\n".join(lines)


def effect(study: dict[str, Any], label: str, row: str, metric: str) -> Estimate:
    """A row minus `controlled`, paired by seed: mean and t-interval."""
    change = values(study, row, label, metric) - values(
        study, "controlled", label, metric
    )
    return t_interval(change)


def difference(study: dict[str, Any], metric: str, row: str = "controlled") -> Estimate:
    """MDLM minus AR in a row, paired by seed: mean and t-interval."""
    ar, mdlm = (values(study, row, label, metric) for label in LABELS)
    return t_interval(mdlm - ar)


def values(study: dict[str, Any], row: str, label: str, metric: str) -> np.ndarray:
    """The values of a metric in a row, one for each seed."""
    training, writing = study["rows"][row][label]
    return np.array(
        [
            trial["writings"][writing][metric]["value"]
            for trial in study["cells"]
            if (trial["training"], trial["label"]) == (training, label)
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
    return markdown_rows(["", *COLUMNS.values()], rows)


def _effects(study: dict[str, Any], label: str) -> str:
    rows = [
        [
            f"{row}: {FACTORS[row]}",
            *(signed(effect(study, label, row, m)) for m in COLUMNS),
        ]
        for row in FACTORS
        if _has(study, row, label)
    ]
    note = "Row minus `controlled`, paired by seed. Bold: the interval excludes 0."
    return note + "\n\n" + markdown_rows(["", *COLUMNS.values()], rows)


def _trainings(study: dict[str, Any]) -> str:
    note = (
        "Nats per token on held-out windows of the same kind as in training. Stream "
        "and document windows are different text, so only rows of one kind can be "
        "compared. MDLM's values are bounds."
    )
    rows = []
    for training, families in study["trainings"].items():
        for label in families:
            found = [
                trial
                for trial in study["cells"]
                if (trial["training"], trial["label"]) == (training, label)
            ]
            sign = "≤ " if label == "MDLM" else ""
            rows.append(
                [
                    f"{training}, {label}",
                    sign + plain(_over(found, lambda c: c["nats_per_token"])),
                    sign + plain(_over(found, lambda c: c["bits_per_byte"])),
                ]
            )
    return note + "\n\n" + markdown_rows(["", "nats/token", "bits/byte"], rows)


def _over(found: list[dict[str, Any]], number: Callable[[Any], float]) -> Estimate:
    return t_interval(np.array([number(trial) for trial in found]))


def _has(study: dict[str, Any], row: str, label: str) -> bool:
    return label in study["rows"][row]


def plain(e: Estimate) -> str:
    """A value and its interval as text."""
    return f"{e.value:.3f}{_ends(e, '.3f')}"


def signed(e: Estimate) -> str:
    """A difference and its interval as text; bold if the interval excludes 0."""
    text = f"{e.value:+.3f}{_ends(e, '+.3f')}"
    return f"**{text}**" if e.low > 0.0 or e.high < 0.0 else text


def _ends(e: Estimate, form: str) -> str:
    """The interval as text; "" for one seed, which has none."""
    return f" [{e.low:{form}}, {e.high:{form}}]" if np.isfinite(e.low) else ""


def read_study(directory: Path) -> dict[str, Any]:
    """The content of study.json of a finished ablation.

    Raises:
      ValueError: if the directory has no study.json.
    """
    path = directory / "study.json"
    require(
        path.is_file(),
        f"{path} does not exist: pass the directory of a finished study, or finish it "
        f"with python -m experiments.ablation --workdir={directory}",
    )
    return files.read_json(path)


def main(directory: str) -> None:
    """Runs the command."""
    print(markdown(read_study(Path(directory))), end="")


if __name__ == "__main__":
    command_line.run(main, positional="DIR")
