"""What the weights of the other family are worth, at equal tokens.

python -m experiments.warm_start --workdir=runs/warm_start

Each family is trained for N steps from drawn parameters, and for N / 2 steps from the
backbone that the other family has after N / 2 steps: N steps of tokens in either case,
with the learning-rate schedule of each training. The default is the config
`controlled.py:storyworld`, with three seeds. Held-out nats per token are exact for AR
and a bound for MDLM, so only runs of one family are compared. A second call trains what
is missing. Writes warm_start.json and warm_start.md. A run with 1,200 steps is in
experiments/results/warm_start.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import jobs
from experiments.cached_json import cached_json
from experiments.compare import comparison
from experiments.families import FAMILIES, own_configs
from experiments.provenance import command_of, made_by
from experiments.report.format import estimate
from experiments.report.table import Table, to_markdown
from experiments.sweep import replace_fields
from lm_jax import checkpoint, command_line, files, run, signals
from lm_jax.config import Config, require
from lm_jax.data import dataset
from lm_jax.evaluation.intervals import as_json, t_interval

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "controlled.py:storyworld"
WHOLE, HALF, WARM = "whole", "half", "warm"
NOTE = (
    "Nats per token of held-out windows, a bound for MDLM. Drawn: N steps from drawn "
    "parameters. Warm: N / 2 steps from the backbone that the other family has after "
    "N / 2 steps. Difference: warm minus drawn, paired by seed; brackets are 95% "
    "t-intervals over seeds."
)


def trainings(cfg: Config, workdir: Path) -> list[tuple[str, str, Config, Path]]:
    """(kind, label of the family, config, directory) of every training, in order."""
    labels = list(own_configs(cfg))
    require(len(labels) == 2, f"a warm start is between two families, not {labels}")
    require(
        cfg.num_seeds > 1, "one seed has no interval: pass --config.num_seeds=3, or 2"
    )
    half = cfg.train.num_steps // 2
    found = []
    for seed in range(cfg.seed, cfg.seed + cfg.num_seeds):
        path = workdir / f"seed_{seed}"
        for label, other in (labels, labels[::-1]):
            name, source = FAMILIES[label].name, FAMILIES[other].name
            for kind, changes in (
                (WHOLE, {}),
                (HALF, {"train.num_steps": half}),
                (
                    WARM,
                    {
                        "train.num_steps": half,
                        "train.init_from": str(path / f"{source}_{HALF}"),
                    },
                ),
            ):
                changes = {"seed": seed, "num_seeds": 1, **changes}
                own = own_configs(replace_fields(cfg, changes))[label]
                found.append((kind, label, own, path / f"{name}_{kind}"))
    return sorted(found, key=lambda training: training[0] == WARM)  # after their source


def warm_start(cfg: Config, workdir: Path, command: str, at_once: int) -> bool:
    """Trains and scores every run, and writes the results; False if it was stopped."""
    cfg = dataset.fit(cfg)
    todo = trainings(cfg, workdir)
    with signals.finish_step() as should_stop:
        for is_warm in (False, True):
            of_phase = [
                jobs.Job(
                    path.relative_to(workdir).as_posix(),
                    {"label": label, "config": own.to_dict(), "path": str(path)},
                    run.num_threads_of(path),
                )
                for kind, label, own, path in todo
                if (kind == WARM) == is_warm
            ]
            work = f"{comparison.__name__}.train_run"
            if not jobs.run_jobs(work, of_phase, at_once, should_stop):
                return False
    nats: dict[str, dict[str, list[float]]] = {}
    for kind, label, own, path in todo:
        if kind != HALF:
            nats.setdefault(label, {}).setdefault(kind, []).append(scored(own, path))
    families = summary(nats)
    files.write_json(
        workdir / "warm_start.json",
        {**made_by(command, cfg), "num_steps": cfg.train.num_steps, **families},
    )
    with files.whole_file(workdir / "warm_start.md") as part:
        part.write_text(to_markdown(table(families)) + "\n", encoding="utf-8")
    print(to_markdown(table(families)))
    return True


def scored(cfg: Config, path: Path) -> float:
    """Held-out nats per token of a finished run, computed once."""
    few = dataclasses.replace(cfg.evaluate, detail_windows=0)
    wanted = {
        "settings": dataclasses.asdict(few),
        "checkpoint": checkpoint.identity(path / checkpoint.DIRECTORY),
    }

    def score() -> dict[str, Any]:
        return {"nats_per_token": run.evaluate(run.load(path), few)["nats_per_token"]}

    found = cached_json(path / "score.json", wanted, score)
    jax.clear_caches()  # every run has programs of its own
    return found["nats_per_token"]


def summary(nats: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Values of each seed, their means, and the paired difference, by family."""
    found = {}
    for label, values in nats.items():
        drawn, warm = (np.array(values[kind]) for kind in (WHOLE, WARM))
        found[label] = {
            "drawn": {**as_json(t_interval(drawn)), "values": drawn.tolist()},
            "warm": {**as_json(t_interval(warm)), "values": warm.tolist()},
            "difference": as_json(t_interval(warm - drawn)),
        }
    return {"families": found}


def table(found: dict[str, Any]) -> Table:
    """A row for each family."""
    rows = [
        (label, *(estimate(part[name]) for name in ("drawn", "warm", "difference")))
        for label, part in found["families"].items()
    ]
    header = ("", "Drawn", "Warm", "Difference")
    return Table("warm_start", "A start from the other family", header, rows, NOTE)


def main() -> None:
    """Runs the command."""
    cfg, workdir = command_line.read_config(), command_line.path("workdir")
    at_once = jobs.at_once(flags.FLAGS.jobs, 2 * cfg.num_seeds)
    done = warm_start(cfg, workdir, command_of("warm_start"), at_once)
    if not done:
        print("stopped and saved; run again to go on")


if __name__ == "__main__":
    command_line.define_config(DEFAULT_CONFIG)
    flags.DEFINE_string("workdir", "runs/warm_start", "Directory of runs and results.")
    flags.DEFINE_integer("jobs", 0, jobs.FLAG)
    command_line.run(main)
