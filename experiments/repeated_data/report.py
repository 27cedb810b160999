"""Tables, figure and conclusions of experiments.repeated_data, from its JSON alone.

python -m experiments.repeated_data.report experiments/results/data_constrained
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.ablation.report import plain, signed
from experiments.report.table import markdown_rows
from lm_jax import command_line, files
from lm_jax.config import require
from lm_jax.evaluation.intervals import Estimate, t_interval

LABELS = ("AR", "MDLM")


def markdown(found: dict[str, Any]) -> str:
    """The content of data_constrained.md."""
    cfg = found["config"]
    tokens = found["cells"][0]["clock"]["num_tokens"]
    intro = (
        f"`{found['command']}`; commit {found['commit']}; corpus "
        f"{cfg['data']['corpus']}; seeds {', '.join(map(str, found['seeds']))}; "
        f"{found['machine']['cpu']}. All runs train on {tokens:,} tokens; the size of "
        "the corpus varies. Losses are nats per token on the same held-out windows, "
        f"evaluated every {cfg['train']['eval_every']} steps. MDLM's losses are bounds "
        f"with {cfg['train']['eval_draws']} draws per window. Brackets are 95% "
        "t-intervals over seeds."
    )
    parts = ["# Training for many epochs on little text", intro]
    for arm, values in found["arms"].items():
        settings = ", ".join(f"{name}={value}" for name, value in values.items())
        parts += [
            f"## {arm}" + (f": {settings}" if settings else ""),
            _arm_table(found, arm),
        ]
    parts += ["## Conclusions", verdict(found)]
    return "\n\n".join(parts) + "\n"


def verdict(found: dict[str, Any]) -> str:
    """Sentences: where AR overfits, and where MDLM's bound is below AR's loss.

    An arm with a new setting does not compare the families, as the same setting may
    help one family and harm the other.
    """
    lines = []
    for arm in found["arms"]:
        overfit = [
            f"{epochs(found, arm, share):.1f}"
            for share in shares(found, arm)
            if overfitting(found, arm, share, "AR").value > 0.01
        ]
        where = (
            f"at {', '.join(overfit)} epochs" if overfit else "at no number of epochs"
        )
        lines.append(
            f"- {arm}: AR's last loss is more than 0.01 nats above its best loss "
            f"{where}."
        )
        if found["arms"][arm]:
            lines += [_cost(found, arm, share) for share in shares(found, arm)]
            continue  # see the docstring
        for name, which in (("last", -1), ("best", None)):
            crossed = [
                f"{epochs(found, arm, share):.1f} ({signed(gap)})"
                for share in shares(found, arm)
                if (gap := difference(found, arm, share, which)).high < 0.0
            ]
            where = f"at {', '.join(crossed)} epochs" if crossed else "at no number"
            lines.append(
                f"- {arm}, {name} step: MDLM's bound is below AR's loss {where}"
                f"{' of epochs' if not crossed else ''}."
            )
    return "\n".join(lines)


def _cost(found: dict[str, Any], arm: str, share: int) -> str:
    """Change of each family's best loss by the setting of an arm, paired by seed."""
    changes = []
    for label in LABELS:
        plain_nats, nats = (
            np.array([score(c, None) for c in cells_of(found, name, share, label)])
            for name in ("plain", arm)
        )
        changes.append(f"of {label} by {signed(t_interval(nats - plain_nats))}")
    return (
        f"- {arm}: at {epochs(found, arm, share):.1f} epochs this setting changes the "
        f"best loss {' and '.join(changes)}. It is the same for both families and was "
        "tuned for neither, so this arm does not compare the families."
    )


def score(trial: dict[str, Any], which: int | None) -> float:
    """Validation nats per token at step number `which`, or, for None, at the best step.

    The best step is selected on the same windows, so its loss is slightly too low, for
    both families.
    """
    nats = [point[1] for point in trial["curves"]["validation"]]
    return min(nats) if which is None else nats[which]


def overfitting(found: dict[str, Any], arm: str, share: int, label: str) -> Estimate:
    """The last validation loss minus the best one, over seeds."""
    group = cells_of(found, arm, share, label)
    return t_interval(np.array([score(c, -1) - score(c, None) for c in group]))


def difference(
    found: dict[str, Any], arm: str, share: int, which: int | None
) -> Estimate:
    """MDLM minus AR, paired by seed."""
    ar, mdlm = (
        np.array([score(trial, which) for trial in cells_of(found, arm, share, label)])
        for label in LABELS
    )
    return t_interval(mdlm - ar)


def figure(found: dict[str, Any], path: Path) -> None:
    """Best and last validation nats against epochs, one panel for each arm."""
    from matplotlib.figure import Figure

    arms = list(found["arms"])
    figure = Figure(figsize=(4 * len(arms), 3.6), layout="constrained")
    axes = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
    for ax, arm in zip(axes, arms, strict=True):
        for label, colour in zip(LABELS, ("tab:blue", "tab:orange"), strict=True):
            for which, style, name in ((None, "-o", "best"), (-1, "--x", "last")):
                times = [epochs(found, arm, s) for s in shares(found, arm)]
                nats = [
                    np.mean([score(c, which) for c in cells_of(found, arm, s, label)])
                    for s in shares(found, arm)
                ]
                sign = "≤ " if label == "MDLM" else ""
                ax.plot(
                    times, nats, style, color=colour, label=f"{sign}{label}, {name}"
                )
        ax.set(xscale="log", xlabel="epochs (same number of tokens)", title=arm)
    axes[0].set_ylabel("held-out nats per token")
    axes[-1].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _arm_table(found: dict[str, Any], arm: str) -> str:
    rows = []
    for share in shares(found, arm):
        cells = []
        for label in LABELS:
            group, sign = cells_of(found, arm, share, label), "≤ " * (label == "MDLM")
            for which in (None, -1):
                nats = t_interval(np.array([score(c, which) for c in group]))
                cells.append(sign + plain(nats))
            best = [
                min(trial["curves"]["validation"], key=lambda point: point[1])[0]
                for trial in group
            ]
            cells.append(f"{np.mean(best):,.0f}")
        gaps = [signed(difference(found, arm, share, which)) for which in (None, -1)]
        count = cells_of(found, arm, share, "AR")[0]["num_stories"]
        rows.append([f"{epochs(found, arm, share):.1f}", f"{count:,}", *cells, *gaps])
    header = ["epochs", "documents"]
    for label in LABELS:
        header += [f"{label}, best", f"{label}, last", "best step"]
    return markdown_rows([*header, "MDLM - AR, best", "MDLM - AR, last"], rows)


def shares(found: dict[str, Any], arm: str) -> list[int]:
    """The divisors of the corpus size that the arm has, in increasing order."""
    return sorted({trial["share"] for trial in found["cells"] if trial["arm"] == arm})


def cells_of(
    found: dict[str, Any], arm: str, share: int, label: str
) -> list[dict[str, Any]]:
    """The trials of all seeds."""
    wanted = (arm, share, label)
    return [c for c in found["cells"] if (c["arm"], c["share"], c["label"]) == wanted]


def epochs(found: dict[str, Any], arm: str, share: int) -> float:
    """Number of epochs, the same for both families."""
    return cells_of(found, arm, share, "AR")[0]["epochs"]


def main(directory: str) -> None:
    """Runs the command."""
    path = Path(directory) / "data_constrained.json"
    require(
        path.is_file(),
        f"{path} does not exist: pass the directory of a finished study, or finish it "
        f"with python -m experiments.repeated_data --workdir={directory}",
    )
    print(markdown(files.read_json(path)), end="")


if __name__ == "__main__":
    command_line.run(main, positional="DIR")
