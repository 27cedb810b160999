"""The same tokens seen again and again: does MDLM overtake AR where text is scarce?

python -m experiments.repeated_data --workdir=runs/data_constrained
python -m experiments.repeated_data --workdir=runs/data_constrained_tinystories \\
    --config.data.corpus=tinystories --config.model.length=208 \\
    --config.model.vocab_size=2048 --config.train.num_steps=2200 --stories=12961 \\
    --config.data.train_files=train.txt --config.data.valid_files=valid.txt

Every run trains on the same number of tokens; the corpus is a first part of the
stories: all, a quarter, a sixteenth, a sixty-fourth. So it is seen about 1, 4, 16 and
64 times, if the config's tokens are one pass over all of it; the results have the exact
numbers. Each family is trained plainly and, where text repeats most, also with dropout
and with more weight decay. All are scored on the same held-out windows, of stories that
no run reads. A second call repeats nothing; two at once share the work. It leaves
data_constrained.json, .md, .png.
"""

from functools import partial
from pathlib import Path

from absl import flags

from experiments import sweep
from experiments.provenance import command_of
from experiments.repeated_data.repeated_data import data_constrained
from lm_jax import command_line

DEFAULT_CONFIG = Path(__file__).parents[1] / "configs" / "data_constrained.py"


def main() -> None:
    cfg, workdir = command_line.read_config(), command_line.path("workdir")
    num_stories = flags.FLAGS.stories or cfg.data.num_stories
    command = command_of("repeated_data")
    rest = partial(data_constrained, cfg, workdir, num_stories, command)
    sweep.run_sweep(cfg, workdir / "data_constrained.md", rest)


if __name__ == "__main__":
    command_line.define_config(DEFAULT_CONFIG)
    flags.DEFINE_string("workdir", "runs/data_constrained", "Directory of the study.")
    flags.DEFINE_integer(
        "stories",
        0,
        "Stories of the largest corpus; default: --config.data.num_stories.",
        lower_bound=0,
    )
    command_line.run(main)
