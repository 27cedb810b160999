"""Where the numbers of the claims come from: studies, comparisons and stopwatches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.compare.seeds import flat
from lm_jax import files
from lm_jax.evaluation.intervals import Estimate

LABELS = ("AR", "MDLM")
GROUPS = ("training.", "convergence.", "openings.", "diversity.")
PROTOCOLS = ("published", "controlled")

# metric -> one estimate a seed
Numbers = Mapping[str, list[Estimate]]
# label -> its numbers
Protocol = Mapping[str, Numbers]


class Evidence(NamedTuple):
    """Where a table's numbers come from.

    Attributes:
      title: of the table.
      study: a directory of experiments.ablation, with a JSON of experiments.speed for
        each protocol in it; "" where the protocols were run apart.
      runs: else a directory of experiments.compare for each protocol.
    """

    title: str
    study: str = ""
    runs: tuple[str, str] = ("", "")

    def speed(self, protocol: str) -> str:
        """Where training of both families was timed in turns."""
        return f"{self.study}/speed_{protocol}.json"


def best_share(curve: list[list[float]]) -> float:
    """The step of the lowest loss over the last one."""
    return min(curve, key=lambda point: point[1])[0] / curve[-1][0]


def read(root: Path, evidence: Evidence, protocol: str) -> Protocol | None:
    """The numbers of one protocol; None where it was not run."""
    if evidence.study:
        stored = stored_json(root / evidence.study / "study.json")
        timed = stored_json(root / evidence.speed(protocol))
        return stored and from_study(stored, protocol, timed)
    name = evidence.runs[PROTOCOLS.index(protocol)]
    stored = stored_json(root / name / "results.json")
    return stored and from_comparison(stored)


def from_study(
    stored: dict[str, Any], row: str, timed: dict[str, Any] | None
) -> Protocol:
    """Speeds are not those of the runs, which shared the machine: see `speeds_of`."""
    found, speeds = {}, speeds_of(timed) if timed else {}
    for label, (training, writing) in stored["rows"][row].items():
        numbers: dict[str, list[Estimate]] = {}
        for cell in stored["cells"]:
            if (cell["training"], cell["label"]) != (training, label):
                continue
            best = best_share(cell["curve"])
            numbers.setdefault("best_step_share", []).append(_alone(best))
            for name, estimate in cell["writings"][writing].items():
                if isinstance(estimate, dict):
                    numbers.setdefault(name, []).append(Estimate(**estimate))
        if speeds:
            numbers["tokens_per_second"] = [speeds[label]]
        found[label] = numbers
    return found


def speeds_of(timed: dict[str, Any]) -> dict[str, Estimate]:
    """AR's median; MDLM's is that times the ratio of the rounds, with its interval."""
    (part,) = timed["training"]["shapes"]
    ar, ratio = part["families"]["ar"]["tokens_per_second"], part["ratios"]["mdlm / ar"]
    ends = (ar * ratio[name] for name in ("value", "low", "high"))
    return {"AR": Estimate(ar, ar, ar), "MDLM": Estimate(*ends)}


def from_comparison(stored: dict[str, Any]) -> Protocol:
    """Of the results.json of experiments.compare."""
    found = {}
    for name, label in zip(("ar", "mdlm"), LABELS, strict=True):
        if "seeds" in stored:
            table = stored["seeds"]["families"][name]
            found[label] = {
                key.rpartition(".")[2]: [_alone(value) for value in row["values"]]
                for key, row in table.items()
                if key.startswith(GROUPS)
            }
            continue
        part = stored["families"][name]
        found[label] = {
            key.rpartition(".")[2]: [_alone(value)]
            for key, value in flat(part).items()
            if key.startswith(GROUPS)
        }
        for group in ("openings", "diversity"):  # which have intervals over stories
            for key, row in part[group].items():
                found[label][key] = [Estimate(**row)]
    return found


def _alone(value: float) -> Estimate:
    """A number without an interval of its own."""
    return Estimate(float(value), -float("inf"), float("inf"))


def stored_json(path: Path) -> dict[str, Any] | None:
    """What the file holds; None where there is none."""
    return files.read_json(path) if path.exists() else None
