"""Repeated data: does MDLM overtake AR on little text and many epochs?

python -m experiments.repeated_data --workdir=runs/data_constrained
python -m experiments.repeated_data --workdir=runs/data_constrained_tinystories \\
    --config.data.corpus=tinystories --config.model.length=208 \\
    --config.model.vocab_size=2048 --config.train.num_steps=2200 --stories=12961 \\
    --config.data.train_files=train.txt --config.data.valid_files=valid.txt

All runs train on the same number of tokens. The corpus is the first part of the
documents: all, 1/4, 1/16 or 1/64. If the config's tokens are one epoch of all
documents, these are about 1, 4, 16 and 64 epochs; the results have the exact numbers.
Each family is trained without changes and, for the two smallest corpora, also with
dropout and with more weight decay. All runs are scored on the same held-out windows. A
second call computes only what is missing; trials go on side by side. The results are
data_constrained.json, .md and .png.
"""

from pathlib import Path

from absl import flags

from experiments import jobs, sweep
from experiments.families import FAMILIES
from experiments.provenance import command_of
from experiments.repeated_data.repeated_data import data_constrained
from lm_jax import command_line

DEFAULT_CONFIG = Path(__file__).parents[1] / "configs" / "data_constrained.py"


def main() -> None:
    """Runs the command."""
    cfg, workdir = command_line.read_config(), command_line.path("workdir")
    num_stories = flags.FLAGS.stories or cfg.data.num_stories
    sweep.run_sweep(
        data_constrained,
        cfg,
        workdir / "data_constrained.md",
        at_once=jobs.at_once(flags.FLAGS.jobs, cfg.num_seeds * len(FAMILIES)),
        workdir=str(workdir),
        num_stories=num_stories,
        command=command_of("repeated_data"),
    )


if __name__ == "__main__":
    command_line.define_config(DEFAULT_CONFIG)
    flags.DEFINE_string(
        "workdir", "runs/data_constrained", "Directory of the runs and results."
    )
    flags.DEFINE_integer(
        "stories",
        0,
        "Documents of the largest corpus; default: --config.data.num_stories.",
        lower_bound=0,
    )
    flags.DEFINE_integer("jobs", 0, jobs.FLAG)
    command_line.run(main)
