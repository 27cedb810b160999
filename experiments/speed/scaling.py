"""What devices tell one another in a training step, and what each of them holds.

python -m experiments.speed.scaling                          eight devices of this CPU
python -m experiments.speed.scaling --on=h200 --accumulation=1,4 \\
    --config=experiments/configs/scale.py:350m         H200s, which need not be there

Nothing runs: the step is compiled for each way to share the state, and its text read.
Bytes are those of the arrays that collectives sum, gather or scatter, each as a whole;
in a loop over microbatches they count as often as it turns. `--on=h200` needs the
wheels of the extra `cuda`, no driver, and JAX_PLATFORMS=cpu.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments.families import FAMILIES
from experiments.provenance import command_of, made_by
from experiments.speed import hopper
from experiments.speed.ahead_of_time import compile_step
from experiments.speed.hlo import facts
from lm_jax import command_line, files, progress
from lm_jax.config import Config, require

DEFAULT_CONFIG = Path(__file__).parents[1] / "configs" / "controlled.py"


def scaling(
    cfg: Config,
    devices: Sequence[Any],
    shares: Sequence[int],
    microbatches: Sequence[int],
) -> dict[str, dict[str, Any]]:
    """Facts of both families' steps, for every way to share the state and the batch.

    Args:
      cfg: batch_size and the model are what is compiled.
      devices: all that there are.
      shares: of how many devices share one copy of the state, one number a row.
      piles: microbatches.
    """
    found = {}
    ways = [(share, pile) for share in shares for pile in microbatches]
    for share, pile in progress.over(ways, "compiling", "meshes"):
        train = dataclasses.replace(
            cfg.train, fsdp_devices=share, accumulation=pile, ema=0.0
        )
        own = dataclasses.replace(cfg, train=train)
        name = f"{len(devices) // share} x {share}"
        if len(microbatches) > 1:
            name += f", {pile} microbatches"
        found[name] = {x: _facts(own, x, devices) for x in FAMILIES}
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """What a person reads: megabytes a step."""
    head = f"{'copies x shares':24}{'MB':6}{'state':>10}{'temporary':>11}{'sent':>10}"
    lines = [head + "  by kind"]
    for name, families in found.items():
        for label, about in families.items():
            sent = about["communicated_bytes"]
            kinds = ", ".join(f"{kind} {_mega(size)}" for kind, size in sent.items())
            lines.append(
                f"{name:24}{label:6}{_mega(about['argument_bytes']):>10}"
                f"{_mega(about['temporary_bytes']):>11}"
                f"{_mega(sum(sent.values())):>10}  {kinds}"
            )
    return "\n".join(lines)


def _facts(cfg: Config, label: str, devices: Sequence[Any]) -> dict[str, Any]:
    about = facts(compile_step(cfg, label, devices))
    return about | {"float32_products": len(about["float32_products"])}


def _mega(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:,.0f}"


def main() -> None:
    cfg, values = command_line.read_config(), flags.FLAGS
    require(
        values.on in ("cpu", "h200"),
        f"--on={values.on} is unknown: choose one of cpu, h200",
    )
    if values.on == "cpu":
        jax.config.update("jax_num_cpu_devices", values.devices)
        devices, h200_target = jax.devices("cpu"), contextlib.nullcontext()
    else:
        devices, h200_target = (
            hopper.devices(values.devices),
            hopper.h200_target(values.devices),
        )
    out = command_line.output("out")
    shares = command_line.integers("shares")
    microbatches = command_line.integers("accumulation")
    with h200_target:
        found = scaling(cfg, devices, shares, microbatches)
    print(table(found))
    if out is not None:
        about = made_by(command_of("speed.scaling"), cfg) | {"meshes": found}
        files.write_json(out, about)


if __name__ == "__main__":
    command_line.define_config(DEFAULT_CONFIG)
    flags.DEFINE_string("on", "cpu", "Device to compile for: cpu or h200.")
    flags.DEFINE_integer("devices", 8, "Number of devices.", lower_bound=1)
    flags.DEFINE_list(
        "shares",
        ["1", "2", "4", "8"],
        "Numbers of devices that share one copy of the state.",
    )
    flags.DEFINE_list("accumulation", ["1"], "Numbers of microbatches.")
    flags.DEFINE_string("out", "", "JSON file of the numbers; default: none.")
    command_line.run(main)
