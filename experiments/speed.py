"""How fast both families train, score and write, measured side by side.

python -m experiments.speed --out=speed.json
python -m experiments.speed --only=sampling --config=experiments/configs/tiny.py
python -m experiments.speed --only=training --twin=eager,compile --shapes=4x256,16x256

Parameters are untrained and the text is noise: neither changes the time. Everything
compared takes turns on the same machine, and figures are medians with their extremes.
With the extra `bench`, training is timed beside the same steps in PyTorch; with `hf`,
cached AR is timed beside `generate` of Hugging Face transformers,
on a model of the same shape. The training loop is also timed around a model that costs
nothing.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import hf_twin, loop_speed
from experiments.provenance import command_of, made_by
from experiments.timing import alternate, break_even, row
from experiments.training_speed import lines, models, noise, training
from lm_jax import command_line, files
from lm_jax.config import Config, SampleConfig, require
from lm_jax.language_model import LanguageModel
from lm_jax.sampling.chunks import make_draw
from lm_jax.training.allocator import keep_freed_memory
from lm_jax.types import MASK, Written

PARTS = ("training", "loop", "evaluation", "sampling")
NUM_STEPS = (8, 16, 32, 64, 128, 256, 512)
BATCHES = (1, 64)
DEFAULT_CONFIG = Path(__file__).parent / "configs" / "tiny.py"


def evaluation(cfg: Config, repeats: int) -> dict[str, Any]:
    """Tokens per second of a score: AR's is exact, MDLM's has this many draws."""
    shape = (cfg.evaluate.batch_size, cfg.model.length)
    x, draws = noise(cfg, shape), cfg.evaluate.num_draws
    programs = {}
    for name, lm in models(cfg).items():
        params = jax.jit(lm.init)(jax.random.key(0))
        score = jax.jit(lm.log_likelihood, static_argnums=3)
        programs[name] = functools.partial(_score, score, params, x, draws)
    spreads = alternate(programs, repeats=repeats)
    rows = {name: row(spread, x.size) for name, spread in spreads.items()}
    return {"batch": shape, "num_draws": draws, "families": rows}


def sampling(
    cfg: Config, repeats: int, num_steps=NUM_STEPS, batches=BATCHES, patience=5.0
) -> dict[str, Any]:
    """Whole windows: AR with its cache, MDLM in so many steps, transformers' generate.

    Returns:
      Of each batch: rows with seconds, tokens per second, network calls; and the number
      of steps at which MDLM is as fast as AR, None where it is outside those measured.
    """
    return {
        str(batch): _sampling(cfg, repeats, num_steps, batch, patience)
        for batch in batches
    }


def _sampling(
    cfg: Config, repeats: int, num_steps, batch: int, patience: float
) -> dict[str, Any]:
    length = cfg.model.length
    ar, mdlm = models(cfg).values()
    draw, calls = _full_windows(ar, length, batch)
    num_calls = {"ar": calls, "transformers": length}
    programs: dict[str, Callable[[], Any]] = {"ar": draw}

    def write(name: str, draw: Callable[[], Written]) -> None:
        num_calls[name] = int(draw().num_calls)

    for steps in num_steps:
        draw = _draw(mdlm, length, batch, SampleConfig(num_steps=steps))
        programs[f"mdlm {steps}"] = functools.partial(write, f"mdlm {steps}", draw)
    if hf_twin.is_installed():
        device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        programs["transformers"] = hf_twin.generate(cfg.model, batch, device)
    spreads = alternate(programs, repeats=repeats, patience=patience)
    rows = {
        name: row(spread, batch * length) | {"num_calls": num_calls[name]}
        for name, spread in spreads.items()
    }
    by_steps = {steps: spreads[f"mdlm {steps}"].median for steps in num_steps}
    return {"rows": rows, "break_even": break_even(by_steps, spreads["ar"].median)}


def table(found: dict[str, Any]) -> str:
    """What a person reads."""
    text = lines(found["training"]) if "training" in found else []
    text += loop_speed.lines(found["loop"]) if "loop" in found else []
    if "evaluation" in found:
        part = found["evaluation"]
        text += ["", f"evaluation, batch {part['batch']}", _HEADER]
        text += [_line(*item) for item in part["families"].items()]
    for batch, part in found.get("sampling", {}).items():
        text += ["", f"sampling, batch {batch}", _HEADER]
        text += [_line(*item) for item in part["rows"].items()]
        steps = part["break_even"]
        text.append(
            "MDLM is as fast as AR at "
            + ("no number of these steps" if steps is None else f"{steps:.0f} steps")
        )
    return "\n".join(text).strip()


_HEADER = f"{'':14}{'tokens/s':>12}{'seconds':>12}{'extremes':>22}{'calls':>8}"


def _line(name: str, row: dict[str, Any]) -> str:
    extremes = f"{row['low']:.4f} to {row['high']:.4f}"
    line = f"{name:14}{row['tokens_per_second']:12,.0f}{row['seconds']:12.4f}"
    return line + f"{extremes:>22}{row.get('num_calls', ''):>8}"


def _score(score: Callable, params: Any, x: jax.Array, draws: int) -> None:
    jax.block_until_ready(score(params, x, jax.random.key(2), draws))


def _draw(
    lm: LanguageModel, length: int, batch: int, cfg: SampleConfig, seed: int = 0
) -> Callable[[], Written]:
    params = jax.jit(lm.init)(jax.random.key(0))
    template = np.full((batch, length), MASK, np.int32)
    draw = make_draw(lm, params, jax.random.key(seed), template, cfg)
    return functools.partial(draw, 0)


def _full_windows(
    lm: LanguageModel, length: int, batch: int
) -> tuple[Callable[[], Written], int]:
    """AR's sampler with a key whose text fills the window: an early end is no speed."""
    for seed in range(100):
        draw = _draw(lm, length, batch, SampleConfig(), seed)
        calls = int(draw().num_calls)
        if calls == length:
            return draw, calls
    raise ValueError(f"no text of {length} tokens without an end in 100 seeds")


def _torch_version() -> dict[str, str]:
    is_there = importlib.util.find_spec("torch")
    return {"torch": importlib.metadata.version("torch")} if is_there else {}


def main() -> None:
    cfg, only = command_line.read_config(), flags.FLAGS.only
    require(
        only in ("", *PARTS),
        f"--only={only} is unknown: choose one of {', '.join(PARTS)}",
    )
    keep_freed_memory(cfg)
    out = command_line.output("out")
    found: dict[str, Any] = made_by(command_of("speed"), cfg)
    found["versions"] |= _torch_version()
    batches = command_line.integers("batches")
    num_steps = command_line.integers("num_steps")
    repeats, twin = flags.FLAGS.repeats, flags.FLAGS.twin
    parts: dict[str, Callable[[], Any]] = {
        "training": lambda: training(cfg, repeats, twin, flags.FLAGS.shapes),
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
        "shapes", [], "Shapes of training batches, 4x256,32x512; default: the config's."
    )
    flags.DEFINE_list("batches", list(map(str, BATCHES)), "Batch sizes of sampling.")
    flags.DEFINE_list(
        "num_steps", list(map(str, NUM_STEPS)), "Steps of MDLM's sampler."
    )
    flags.DEFINE_list(
        "twin",
        [],
        "Ways to run PyTorch beside it, eager or compile (extra bench); default: none.",
    )
    flags.DEFINE_string(
        "profile",
        "",
        "Directory of a trace for TensorBoard or Perfetto; default: none.",
    )
    flags.DEFINE_integer(
        "repeats", 5, "Rounds in which everything takes its turn.", lower_bound=1
    )
    command_line.run(main)
