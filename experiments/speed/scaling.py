"""Memory of each device, and communication between devices, in a training step.

python -m experiments.speed.scaling                          eight devices of this CPU
python -m experiments.speed.scaling --on=h200 --accumulation=1,4 \\
    --config=experiments/configs/scale.py:350m              H200s, which may be absent

Nothing runs: the step is compiled for each way to share the state, and its HLO text is
parsed. Bytes are the sizes of the whole arrays that collectives sum, gather or scatter;
in a loop over microbatches they count once per iteration. `--on=h200` needs the wheels
of the extra `cuda`, no driver, and JAX_PLATFORMS=cpu.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments.families import FAMILIES
from experiments.provenance import command_of, made_by
from experiments.report.table import to_text
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
    """Facts about the steps of both families, for each way to share state and batch.

    Args:
      cfg: configuration with the model and the batch size.
      devices: all devices.
      shares: numbers of devices that share one copy of the state.
      microbatches: numbers of microbatches.
    """
    found = {}
    ways = [(share, count) for share in shares for count in microbatches]
    for share, count in progress.over(ways, "compiling", "meshes"):
        train = dataclasses.replace(
            cfg.train, fsdp_devices=share, accumulation=count, ema=0.0
        )
        own = dataclasses.replace(cfg, train=train)
        name = f"{len(devices) // share} x {share}"
        if len(microbatches) > 1:
            name += f", {count} microbatches"
        found[name] = {x: _facts(own, x, devices) for x in FAMILIES}
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """The results as text: megabytes per step."""
    rows: list[tuple[str, ...]] = [
        ("copies x shares", "MB", "state", "temporary", "sent", "by kind")
    ]
    for name, families in found.items():
        for label, about in families.items():
            sent = about["communicated_bytes"]
            sizes = (about["argument_bytes"], about["temporary_bytes"])
            kinds = ", ".join(f"{kind} {_mega(size)}" for kind, size in sent.items())
            sums = map(_mega, (*sizes, sum(sent.values())))
            rows.append((name, label, *sums, kinds))
    return to_text(*rows)


def _facts(cfg: Config, label: str, devices: Sequence[Any]) -> dict[str, Any]:
    about = facts(compile_step(cfg, label, devices))
    return about | {"float32_products": len(about["float32_products"])}


def _mega(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:,.0f}"


def main() -> None:
    """Runs the command."""
    cfg, values = command_line.read_config(), flags.FLAGS
    require(
        values.on in ("cpu", "h200"),
        f"--on={values.on} is unknown: choose one of cpu, h200",
    )
    if values.on == "cpu":
        jax.config.update("jax_num_cpu_devices", values.devices)
        devices = jax.devices("cpu")
    else:
        devices = hopper.devices(values.devices)
    out = command_line.output("out")
    shares = command_line.integers("shares")
    microbatches = command_line.integers("accumulation")
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
