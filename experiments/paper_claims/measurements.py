"""Reads the measured values of the claims from result files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.compare.seeds import flat
from lm_jax import files
from lm_jax.evaluation.intervals import Estimate

LABELS = ("AR", "MDLM")
GROUPS = ("training.", "convergence.", "openings.", "diversity.")
PROTOCOLS = ("published", "controlled")

# metric -> one estimate per seed
Numbers = Mapping[str, list[Estimate]]
# family label -> its numbers
Protocol = Mapping[str, Numbers]


class MeasurementSource(NamedTuple):
    """The result directories of a table.

    Attributes:
      title: title of the table.
      study: directory of experiments.ablation, which also holds a JSON file of
        experiments.speed for each protocol; "" if `runs` is given.
      runs: one directory of experiments.compare for each protocol.
    """

    title: str
    study: str = ""
    runs: tuple[str, str] = ("", "")

    def speed(self, protocol: str) -> str:
        """Path of the training speeds of both families, timed in alternating rounds."""
        return f"{self.study}/speed_{protocol}.json"


def best_share(curve: list[list[float]]) -> float:
    """The step of the lowest loss / the last step."""
    return min(curve, key=lambda point: point[1])[0] / curve[-1][0]


def read(root: Path, source: MeasurementSource, protocol: str) -> Protocol | None:
    """The numbers of one protocol; None if it was not run."""
    if source.study:
        stored = stored_json(root / source.study / "study.json")
        timed = stored_json(root / source.speed(protocol))
        return stored and from_study(stored, protocol, timed)
    name = source.runs[PROTOCOLS.index(protocol)]
    stored = stored_json(root / name / "results.json")
    return stored and from_comparison(stored)


def from_study(
    stored: dict[str, Any], row: str, timed: dict[str, Any] | None
) -> Protocol:
    """Numbers of study.json; speeds are from `timed`, as trials shared the machine."""
    found, speeds = {}, speeds_of(timed) if timed else {}
    for label, (training, writing) in stored["rows"][row].items():
        numbers: dict[str, list[Estimate]] = {}
        for trial in stored["cells"]:
            if (trial["training"], trial["label"]) != (training, label):
                continue
            best = best_share(trial["curve"])
            numbers.setdefault("best_step_share", []).append(_without_interval(best))
            for name, estimate in trial["writings"][writing].items():
                if isinstance(estimate, dict):
                    numbers.setdefault(name, []).append(Estimate(**estimate))
        if speeds:
            numbers["tokens_per_second"] = [speeds[label]]
        found[label] = numbers
    return found


def speeds_of(timed: dict[str, Any]) -> dict[str, Estimate]:
    """AR: median speed. MDLM: that times the ratio within rounds, with its interval."""
    (part,) = timed["training"]["shapes"]
    ar, ratio = part["families"]["ar"]["tokens_per_second"], part["ratios"]["mdlm / ar"]
    ends = (ar * ratio[name] for name in ("value", "low", "high"))
    return {"AR": Estimate(ar, ar, ar), "MDLM": Estimate(*ends)}


def from_comparison(stored: dict[str, Any]) -> Protocol:
    """Numbers of results.json of experiments.compare."""
    found = {}
    for name, label in zip(("ar", "mdlm"), LABELS, strict=True):
        if "seeds" in stored:
            table = stored["seeds"]["families"][name]
            found[label] = {
                key.rpartition(".")[2]: [
                    _without_interval(value) for value in row["values"]
                ]
                for key, row in table.items()
                if key.startswith(GROUPS)
            }
            continue
        part = stored["families"][name]
        found[label] = {
            key.rpartition(".")[2]: [_without_interval(value)]
            for key, value in flat(part).items()
            if key.startswith(GROUPS)
        }
        for group in ("openings", "diversity"):  # these have intervals over samples
            for key, row in part[group].items():
                found[label][key] = [Estimate(**row)]
    return found


def _without_interval(value: float) -> Estimate:
    """A value without an interval."""
    return Estimate(float(value), -float("inf"), float("inf"))


def stored_json(path: Path) -> dict[str, Any] | None:
    """The content of the file; None if it does not exist."""
    return files.read_json(path) if path.exists() else None
