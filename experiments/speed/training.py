"""Times training steps: tokens and FLOPs per second, and facts about the program."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families import FAMILIES, own_configs
from experiments.report.table import to_text
from experiments.speed.hlo import facts
from experiments.speed.timing import Spread, alternate, row
from lm_jax.config import Config, require
from lm_jax.evaluation.intervals import Estimate
from lm_jax.language_model import LanguageModel
from lm_jax.training.optimizer import make_optimizer
from lm_jax.training.train_step import init_state, make_train_step
from lm_jax.types import EOS

FLOPS = """FLOPs per token are 6 N + 12 L D T, or 6 N + 6 L D T with causal attention:
N parameters of matrix products, L layers, width D, T tokens; forward and backward pass.
MDLM's are counted as if its head ran everywhere, also where it runs on masks only."""

# Size of the square product that measures the peak, and steps between waits.
PEAK_SIZE = {"cpu": 2_048, "gpu": 8_192}
STEPS = {"cpu": 2, "gpu": 20}

# Dense bf16 FLOPs per second in the makers' data sheets, by prefix of the device name.
DATA_SHEET = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2_250e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA GeForce RTX 4090": 165e12,
}


def training(
    cfg: Config,
    repeats: int,
    modes: Sequence[str] = (),
    shapes: Sequence[str] = (),
) -> dict[str, Any]:
    """Times whole training steps of both families in alternating rounds.

    Args:
      cfg: configuration; it has the dtype and the default shape.
      repeats: number of rounds.
      modes: modes of the PyTorch baseline, "eager" and "compile", in the same rounds.
      shapes: shapes of batches; "32x512" is 32 windows of 512 tokens.

    Returns:
      The definition of FLOPs per token and, for each shape: tokens per second, FLOPs
      per second, their share of the matmul peak (measured in the same rounds and the
      same framework) and of the data sheet's peak, and facts about our compiled step.
    """
    require(
        not modes or bool(importlib.util.find_spec("torch")),
        f"--torch={','.join(modes)} needs PyTorch: pip install -e '.[bench]'",
    )
    cfgs = [reshaped(cfg, shape) for shape in shapes] or [cfg]
    return {
        "flops": FLOPS,
        "data_sheet_flops_per_second": data_sheet(jax.devices()[0].device_kind),
        "shapes": [_one_shape(c, repeats, modes) for c in cfgs],
    }


def reshaped(cfg: Config, shape: str) -> Config:
    """`cfg` with batches of a shape such as "32x512" (windows x tokens)."""
    sizes = shape.split("x")
    require(
        len(sizes) == 2 and all(size.isdecimal() for size in sizes),
        f"--shapes={shape!r} must be windows x tokens, as in 32x512",
    )
    batch, length = map(int, sizes)
    return dataclasses.replace(
        cfg,
        model=dataclasses.replace(cfg.model, length=length),
        train=dataclasses.replace(cfg.train, batch_size=batch, accumulation=1),
    )


def data_sheet(device_kind: str) -> float | None:
    """Dense bf16 FLOPs per second of a device; None if it is not in the table."""
    names = [name for name in DATA_SHEET if device_kind.startswith(name)]
    return DATA_SHEET[max(names, key=len)] if names else None


def lines(found: dict[str, Any]) -> list[str]:
    """The results of `training` as text."""
    text = []
    for part in found["shapes"]:
        batch = "x".join(map(str, part["batch"]))
        text += ["", f"training, {batch} tokens, {part['dtype']}"]
        rows = [_row(*item) for item in part["families"].items()]
        text.append(to_text(_HEADER, *rows))
        for name, ratio in part["ratios"].items():
            value, low, high = ratio["value"], ratio["low"], ratio["high"]
            text.append(f"{name}: {value:.3f} [{low:.3f}, {high:.3f}]")
    return text


def models(cfg: Config) -> dict[str, LanguageModel]:
    """The models of both families by name."""
    return {
        FAMILIES[label].name: FAMILIES[label].make(own)
        for label, own in own_configs(cfg).items()
    }


def noise(cfg: Config, shape: tuple[int, int]) -> jax.Array:
    """Random text tokens."""
    return jax.random.randint(jax.random.key(9), shape, EOS + 1, cfg.model.vocab_size)


def training_step(
    lm: LanguageModel, cfg: Config, x: jax.Array, steps: int
) -> tuple[Callable[[], None], Any]:
    """(() -> None: runs `steps` training steps and waits, jax's `Compiled` step)."""
    tx = make_optimizer(cfg.optimizer, cfg.train.num_steps)
    step = make_train_step(lm, tx, jax.random.key(1), accumulation=1)
    states = [jax.jit(lambda: init_state(lm, tx, jax.random.key(0)))()]
    compiled = step.lower(states[0], x).compile()

    def turn() -> None:
        state, metrics = states.pop(), None
        for _ in range(steps):
            state, metrics = compiled(state, x)
        states.append(state)
        jax.block_until_ready(metrics)

    return turn, compiled


def _one_shape(cfg: Config, repeats: int, modes: Sequence[str]) -> dict[str, Any]:
    backend, dtype = jax.default_backend(), cfg.model.dtype
    shape = (cfg.train.batch_size, cfg.model.length)
    x, lms, steps = noise(cfg, shape), models(cfg), STEPS.get(backend, 20)
    programs: dict[str, Callable[[], Any]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, lm in lms.items():
        programs[name], compiled = training_step(lm, cfg, x, steps)
        about = facts(compiled)
        about |= {"float32_products": len(about["float32_products"])}
        flops = lm.flops_per_token
        rows[name] = {"hlo": about, "peak": "matmul", "flops_per_token": flops}
    size = PEAK_SIZE.get(backend, 8_192)
    square = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    programs["matmul"] = lambda: jax.block_until_ready(product(square, square))
    if modes:
        torch_baseline = importlib.import_module("experiments.speed.torch_baseline")
        device = "cuda" if backend == "gpu" else "cpu"
        programs["torch matmul"] = torch_baseline.matmul(size, dtype, device)
        for mode in modes:
            for name, lm in lms.items():
                params = jax.jit(lm.init)(jax.random.key(0))
                step = partial(
                    torch_baseline.training_step, cfg, name, params, np.asarray(x)
                )
                label = f"torch {mode} {name}"
                programs[label] = step(mode=mode, device=device, steps=steps)
                flops = lm.flops_per_token
                rows[label] = {"peak": "torch matmul", "flops_per_token": flops}
    spreads = alternate(programs, repeats=repeats)
    sheet = data_sheet(jax.devices()[0].device_kind)
    for name, about in rows.items():
        about |= row(spreads[name].over(steps), x.size)
        flops = about["tokens_per_second"] * about["flops_per_token"]
        about["flops_per_second"] = flops
        peak = 2.0 * size**3 / spreads[about["peak"]].median
        about["share_of_matmul_peak"] = flops / peak
        about["share_of_data_sheet"] = flops / sheet if sheet else None
    peaks = {
        name: 2.0 * size**3 / spreads[name].median
        for name in ("matmul", "torch matmul")
        if name in spreads
    }
    return {
        "batch": shape,
        "dtype": dtype,
        "matmul_flops_per_second": peaks,
        "families": rows,
        "ratios": _ratios({name: spreads[name] for name in rows}),
    }


def _ratios(spreads: Mapping[str, Spread]) -> dict[str, dict[str, float]]:
    """Ratios of tokens per second: MDLM / AR, and ours / the PyTorch baseline."""
    found: dict[str, Estimate] = {
        "mdlm / ar": spreads["mdlm"].faster_than(spreads["ar"])
    }
    for name in spreads:
        if name.startswith("torch"):
            ours = name.rpartition(" ")[2]
            found[f"{ours} / {name}"] = spreads[ours].faster_than(spreads[name])
    return {name: ratio._asdict() for name, ratio in found.items()}


_HEADER = (
    "",
    "tokens/s",
    "ms/step",
    "extremes",
    "of matmul",
    "of sheet",
    "kernels",
    "temp MB",
)


def _row(name: str, about: dict[str, Any]) -> tuple[str, ...]:
    sheet, hlo = about["share_of_data_sheet"], about.get("hlo")
    return (
        name,
        f"{about['tokens_per_second']:,.0f}",
        f"{1e3 * about['seconds']:.1f}",
        f"{1e3 * about['low']:.1f} to {1e3 * about['high']:.1f}",
        f"{about['share_of_matmul_peak']:.0%}",
        f"{sheet:.1%}" if sheet else "",
        f"{hlo['num_kernels']}" if hlo else "",
        f"{hlo['temporary_bytes'] / 1e6:.0f}" if hlo else "",
    )
