"""Ablation: which factor of the paper's protocol makes openings collapse?

python -m experiments.ablation --workdir=runs/study_storyworld
python -m experiments.ablation --workdir=runs/study_tinystories \\
    --config=experiments/configs/controlled.py:tinystories \\
    --config.data.train_files=train.txt --config.data.valid_files=valid.txt

The baseline is the repaired protocol, `controlled`. Each factor alone is set as in
arXiv:2603.22075, and finally all of them, `published`. A training factor needs its own
runs; a sampling factor uses the runs of the baseline. A second call computes only what
is missing; trials go on side by side (--jobs). The results are study.json and study.md.
"""

from pathlib import Path

from absl import flags

from experiments import jobs, sweep
from experiments.ablation.ablation import study
from experiments.families import FAMILIES
from experiments.provenance import command_of
from lm_jax import command_line

DEFAULT_CONFIG = Path(__file__).parents[1] / "configs" / "controlled.py:storyworld"


def main() -> None:
    """Runs the command."""
    cfg, workdir = command_line.read_config(), command_line.path("workdir")
    sweep.run_sweep(
        study,
        cfg,
        workdir / "study.md",
        at_once=jobs.at_once(flags.FLAGS.jobs, cfg.num_seeds * len(FAMILIES)),
        workdir=str(workdir),
        command=command_of("ablation"),
    )


if __name__ == "__main__":
    command_line.define_config(DEFAULT_CONFIG)
    flags.DEFINE_string("workdir", "runs/study", "Directory of the runs and results.")
    flags.DEFINE_integer("jobs", 0, jobs.FLAG)
    command_line.run(main)
