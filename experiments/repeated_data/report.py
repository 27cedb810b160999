"""Tables, figure and verdict of experiments.repeated_data, from its JSON alone.

python -m experiments.repeated_data.report experiments/results/data_constrained
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.ablation.report import plain, signed, table
from lm_jax import command_line, files
from lm_jax.config import require
from lm_jax.evaluation.intervals import Estimate, t_interval

LABELS = ("AR", "MDLM")


def markdown(found: dict[str, Any]) -> str:
    """The whole of data_constrained.md."""
    cfg = found["config"]
    tokens = found["cells"][0]["clock"]["num_tokens"]
    intro = (
        f"`{found['command']}`; commit {found['commit']}; corpus "
        f"{cfg['data']['corpus']}; seeds {', '.join(map(str, found['seeds']))}; "
        f"{found['machine']['cpu']}. Every run trains on {tokens:,} tokens; the corpus "
        "varies. Nats per token of the same held-out windows, those of the learning "
        f"curve, every {cfg['train']['eval_every']} steps; MDLM's are bounds, by "
        f"{cfg['train']['eval_draws']} draws a window. Brackets are 95% t-intervals "
        "over seeds."
    )
    parts = ["# The same tokens, seen again and again", intro]
    for arm, values in found["arms"].items():
        said = ", ".join(f"{name}={value}" for name, value in values.items())
        parts += [f"## {arm}" + (f": {said}" if said else ""), _arm_table(found, arm)]
    parts += ["## Verdict", verdict(found)]
    return "\n\n".join(parts) + "\n"


def verdict(found: dict[str, Any]) -> str:
    """When AR overfits, and whether MDLM crosses it, in words from the intervals.

    An arm that gives both families the same new setting compares neither with the
    other, as the setting may suit one of them and harm the other.
    """
    lines = []
    for arm in found["arms"]:
        overfit = [
            f"{epochs(found, arm, share):.1f}"
            for share in shares(found, arm)
            if overfitting(found, arm, share, "AR").value > 0.01
        ]
        where = f"at {', '.join(overfit)} epochs" if overfit else "nowhere"
        lines.append(
            f"- {arm}: AR ends more than 0.01 nats above its own best {where}."
        )
        if found["arms"][arm]:
            lines += [_cost(found, arm, share) for share in shares(found, arm)]
            continue  # one setting for both is no comparison of them
        for name, which in (("last", -1), ("best", None)):
            crossed = [
                f"{epochs(found, arm, share):.1f} ({signed(gap)})"
                for share in shares(found, arm)
                if (gap := difference(found, arm, share, which)).high < 0.0
            ]
            where = f"at {', '.join(crossed)} epochs" if crossed else "at no number"
            lines.append(
                f"- {arm}: at its {name} step MDLM's bound lies below AR {where}"
                f"{' of epochs' if not crossed else ''}."
            )
    return "\n".join(lines)


def _cost(found: dict[str, Any], arm: str, share: int) -> str:
    """What the setting of an arm does to each family, paired by seed."""
    changes = []
    for label in LABELS:
        plain_nats, nats = (
            np.array([score(c, None) for c in cells_of(found, name, share, label)])
            for name in ("plain", arm)
        )
        changes.append(f"{label}'s by {signed(t_interval(nats - plain_nats))}")
    return (
        f"- {arm}: at {epochs(found, arm, share):.1f} epochs it changes the best loss: "
        f"{' and '.join(changes)}. The setting is the same for both families and was "
        "not chosen for either, so this arm does not compare them."
    )


def score(cell: dict[str, Any], which: int | None) -> float:
    """Validation nats per token at the last step, or, for None, at the best one.

    The best is found on the windows that score it: a little too low, for both alike.
    """
    nats = [point[1] for point in cell["curves"]["validation"]]
    return min(nats) if which is None else nats[which]


def overfitting(found: dict[str, Any], arm: str, share: int, label: str) -> Estimate:
    """The last validation loss minus the best."""
    group = cells_of(found, arm, share, label)
    return t_interval(np.array([score(c, -1) - score(c, None) for c in group]))


def difference(
    found: dict[str, Any], arm: str, share: int, which: int | None
) -> Estimate:
    """MDLM minus AR, paired by seed."""
    ar, mdlm = (
        np.array([score(cell, which) for cell in cells_of(found, arm, share, label)])
        for label in LABELS
    )
    return t_interval(mdlm - ar)


def figure(found: dict[str, Any], path: Path) -> None:
    """Validation nats against epochs, best and last; one panel an arm."""
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
        ax.set(xscale="log", xlabel="epochs of a fixed number of tokens", title=arm)
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
                min(cell["curves"]["validation"], key=lambda point: point[1])[0]
                for cell in group
            ]
            cells.append(f"{np.mean(best):,.0f}")
        gaps = [signed(difference(found, arm, share, which)) for which in (None, -1)]
        count = cells_of(found, arm, share, "AR")[0]["num_stories"]
        rows.append([f"{epochs(found, arm, share):.1f}", f"{count:,}", *cells, *gaps])
    header = ["epochs", "stories"]
    for label in LABELS:
        header += [f"{label}, best", f"{label}, last", "best step"]
    return table([*header, "MDLM - AR, best", "MDLM - AR, last"], rows)


def shares(found: dict[str, Any], arm: str) -> list[int]:
    """1 / the share of the stories, of every corpus that the arm has."""
    return sorted({cell["share"] for cell in found["cells"] if cell["arm"] == arm})


def cells_of(
    found: dict[str, Any], arm: str, share: int, label: str
) -> list[dict[str, Any]]:
    """The cells of all seeds."""
    wanted = (arm, share, label)
    return [c for c in found["cells"] if (c["arm"], c["share"], c["label"]) == wanted]


def epochs(found: dict[str, Any], arm: str, share: int) -> float:
    """How often a run sees its corpus, the same for both families."""
    return cells_of(found, arm, share, "AR")[0]["epochs"]


def main(directory: str) -> None:
    path = Path(directory) / "data_constrained.json"
    require(
        path.is_file(),
        f"{path} does not exist: name the directory of a finished study, or finish it "
        f"with python -m experiments.repeated_data --workdir={directory}",
    )
    print(markdown(files.read_json(path)), end="")


if __name__ == "__main__":
    command_line.run(main, positional="DIR")
