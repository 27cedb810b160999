"""Profile of a training step: time by kernel and by purpose.

    python -m experiments.speed.hot_spots --config=experiments/configs/tiny.py

A trace has the time of each kernel, and the compiled program its purpose. Kernels that
run in parallel all count, so the sum can exceed the time of the step.
"""

import collections
import re
import tempfile
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments.provenance import command_of, made_by
from experiments.speed.hlo import instructions
from experiments.speed.timing import alternate
from experiments.speed.training import models, noise, training_step
from lm_jax import command_line, files
from lm_jax.config import Config
from lm_jax.training.malloc import disable_malloc_trim

DEFAULT_CONFIG = Path(__file__).parents[1] / "configs" / "tiny.py"

_OP_NAME = re.compile(r'op_name="([^"]*)"')


def hot_spots(cfg: Config, steps: int) -> dict[str, Any]:
    """Seconds of a step of each family: wall-clock time, by purpose, and by kernel."""
    x = noise(cfg, (cfg.train.batch_size, cfg.model.length))
    return {name: _of_step(lm, cfg, x, steps) for name, lm in models(cfg).items()}


def _of_step(lm: Any, cfg: Config, x: jax.Array, steps: int) -> dict[str, Any]:
    turn, compiled = training_step(lm, cfg, x, steps)
    seconds = alternate({"step": turn}, repeats=3)["step"].over(steps).median
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            turn()
        ran = kernels(Path(folder), "jit_train_step")
    named = purposes(compiled.as_text())
    by_purpose: dict[str, float] = collections.defaultdict(float)
    by_kernel: dict[str, float] = collections.defaultdict(float)
    for (operation, kernel), spent in ran.items():
        by_purpose[named.get(operation, kernel)] += spent / steps
        by_kernel[re.sub(r"\d+", "*", kernel)] += spent / steps
    return {
        "seconds": seconds,
        "purposes": _largest_first(by_purpose),
        "kernels": _largest_first(by_kernel),
    }


def _largest_first(seconds: dict[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def kernels(trace: Path, module: str) -> dict[tuple[str, str], float]:
    """(HLO instruction, kernel) -> seconds, for the program of this name in a trace.

    Raises:
      ValueError: if the folder has no trace, or none of that program.
    """
    found: dict[tuple[str, str], float] = collections.defaultdict(float)
    for path in trace.rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for event in (event for line in plane.lines for event in line.events):
                stats: dict[str, Any] = {k: v for k, v in event.stats if k}
                if str(stats.get("hlo_module", "")).startswith(module):
                    operation = str(stats.get("hlo_op", ""))
                    found[operation, event.name] += event.duration_ns / 1e9
    if not found:
        raise ValueError(f"{trace} holds no trace of a program named {module}")
    return dict(found)


def purposes(text: str) -> dict[str, str]:
    """Purpose of each instruction by its name: pass, layer and operation.

    >>> purposes('  %dot.1 = f32[2]{0} dot(%a), metadata={op_name="jit(f)/jvp(T)/b_7"}')
    {'dot.1': 'forward b_*'}
    """
    found = {}
    for line in instructions(text):
        if name := _OP_NAME.search(line.line):
            found[line.name] = _purpose(name[1])
    return found


def _purpose(op_name: str) -> str:
    parts = op_name.split("/")[1:]
    step = "update"
    while parts and re.match(r"(transpose|jvp)\(", parts[0]):
        step = "backward" if parts[0].startswith("transpose") else "forward"
        parts = parts[1:]
    return " ".join([step, re.sub(r"\d+", "*", "/".join(parts))]).strip()


def table(found: dict[str, Any], rows: int = 25) -> str:
    """The report as text: milliseconds and shares, the largest first."""
    text = []
    for name, about in found.items():
        for kind in ("purposes", "kernels"):
            total = sum(about[kind].values())
            clock = f"{1e3 * about['seconds']:.2f} ms per step"
            text += ["", f"{name}: {clock}, {1e3 * total:.2f} ms in {kind}"]
            for label, seconds in list(about[kind].items())[:rows]:
                share = seconds / total
                text.append(f"{1e3 * seconds:9.3f} {share:6.1%}  {label[:100]}")
    return "\n".join(text).strip()


def main() -> None:
    """Runs the command."""
    cfg = command_line.read_config()
    disable_malloc_trim(cfg)
    out = command_line.output("out")
    found = hot_spots(cfg, flags.FLAGS.steps)
    print(table(found))
    if out is not None:
        about = made_by(command_of("speed.hot_spots"), cfg) | {"hot_spots": found}
        files.write_json(out, about)


if __name__ == "__main__":
    command_line.define_config(DEFAULT_CONFIG)
    flags.DEFINE_string("out", "", "JSON file of the numbers; default: none.")
    flags.DEFINE_integer("steps", 10, "Number of steps in the trace.", lower_bound=1)
    command_line.run(main)
