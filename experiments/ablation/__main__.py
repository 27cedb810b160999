"""What makes openings collapse: the study's protocol, one factor at a time.

python -m experiments.ablation --workdir=runs/study_storyworld
python -m experiments.ablation --workdir=runs/study_tinystories \\
    --config=experiments/configs/controlled.py:tinystories \\
    --config.data.train_files=train.txt --config.data.valid_files=valid.txt

From the repaired protocol, `controlled`, each factor alone is set as arXiv:2603.22075
had it, and at last all of them, `published`. Factors of training get runs of their own,
factors of writing write again with the runs that are there. A second call repeats
nothing; two at once share the work. It leaves study.json and study.md.
"""

from functools import partial
from pathlib import Path

from absl import flags

from experiments import sweep
from experiments.ablation.ablation import study
from experiments.provenance import command_of
from lm_jax import command_line

DEFAULT_CONFIG = Path(__file__).parents[1] / "configs" / "controlled.py:storyworld"


def main() -> None:
    cfg, workdir = command_line.read_config(), command_line.path("workdir")
    rest = partial(study, cfg, workdir, command_of("ablation"))
    sweep.run_sweep(cfg, workdir / "study.md", rest)


if __name__ == "__main__":
    command_line.define_config(DEFAULT_CONFIG)
    flags.DEFINE_string("workdir", "runs/study", "Directory of the study.")
    command_line.run(main)
