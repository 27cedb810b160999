"""Speed of training, scoring and sampling of both families, in the same rounds.

python -m experiments.speed --out=speed.json
python -m experiments.speed --only=sampling --config=experiments/configs/tiny.py
python -m experiments.speed --only=training --torch=eager,compile --shapes=4x256,16x256

Parameters are untrained and the tokens are random: neither changes the time. Programs
that are compared run in alternating rounds on the same machine; results are medians
with minimum and maximum. With the extra `bench`, the same training steps are also timed
in PyTorch (--torch). With `hf`, `generate` of Hugging Face transformers is timed on a
model of the same shape as cached AR. The training loop is also timed with a model of
negligible cost.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments.provenance import command_of, made_by
from experiments.speed import loop as loop_speed
from experiments.speed.speed import (
    BATCHES,
    NUM_STEPS,
    PARTS,
    evaluation,
    sampling,
    table,
    torch_version,
)
from experiments.speed.training import training
from lm_jax import command_line, files
from lm_jax.config import require
from lm_jax.training.malloc import disable_malloc_trim

DEFAULT_CONFIG = Path(__file__).parents[1] / "configs" / "tiny.py"


def main() -> None:
    """Runs the command."""
    cfg, only = command_line.read_config(), flags.FLAGS.only
    require(
        only in ("", *PARTS),
        f"--only={only} is unknown: choose one of {', '.join(PARTS)}",
    )
    disable_malloc_trim(cfg)
    out = command_line.output("out")
    found: dict[str, Any] = made_by(command_of("speed"), cfg)
    found["versions"] |= torch_version()
    batches = command_line.integers("batches")
    num_steps = command_line.integers("num_steps")
    repeats, modes = flags.FLAGS.repeats, flags.FLAGS.torch
    parts: dict[str, Callable[[], Any]] = {
        "training": lambda: training(cfg, repeats, modes, flags.FLAGS.shapes),
        "loop": lambda: loop_speed.loop(cfg, repeats, flags.FLAGS.shapes),
        "evaluation": lambda: evaluation(cfg, repeats),
        "sampling": lambda: sampling(cfg, repeats, num_steps, batches),
    }
    trace = command_line.path("profile") if flags.FLAGS.profile else None
    with jax.profiler.trace(trace) if trace else contextlib.nullcontext():
        for part in (only,) if only else PARTS:
            found[part] = parts[part]()
    print(table(found))
    if out is not None:
        files.write_json(out, json.loads(json.dumps(found)))


if __name__ == "__main__":
    command_line.define_config(DEFAULT_CONFIG)
    flags.DEFINE_string(
        "only", "", f"Part to measure, one of {', '.join(PARTS)}; default: all."
    )
    flags.DEFINE_string("out", "", "JSON file of the numbers; default: none.")
    flags.DEFINE_list(
        "shapes",
        [],
        "Shapes of training batches, as in 4x256,32x512; default: the config's.",
    )
    flags.DEFINE_list("batches", list(map(str, BATCHES)), "Batch sizes of sampling.")
    flags.DEFINE_list(
        "num_steps", list(map(str, NUM_STEPS)), "Numbers of steps of MDLM's sampler."
    )
    flags.DEFINE_list(
        "torch",
        [],
        "Modes of the PyTorch baseline: eager, compile (extra bench); default: none.",
    )
    flags.DEFINE_string(
        "profile",
        "",
        "Directory for a trace for TensorBoard or Perfetto; default: none.",
    )
    flags.DEFINE_integer(
        "repeats", 5, "Rounds; each program runs once per round.", lower_bound=1
    )
    command_line.run(main)
