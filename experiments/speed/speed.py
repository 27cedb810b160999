"""Times evaluation and sampling of both families in alternating rounds."""

import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.report.table import to_text
from experiments.speed import hf_baseline, loop
from experiments.speed.timing import alternate, break_even, row
from experiments.speed.training import lines, models, noise
from lm_jax.config import Config, SampleConfig
from lm_jax.language_model import LanguageModel
from lm_jax.sampling.generate import compile_sampler
from lm_jax.types import MASK, SampleOutput

PARTS = ("training", "loop", "evaluation", "sampling")
NUM_STEPS = (8, 16, 32, 64, 128, 256, 512)
BATCHES = (1, 64)


def evaluation(cfg: Config, repeats: int) -> dict[str, Any]:
    """Times likelihood scores: AR's is exact, MDLM's has `num_draws` draws."""
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
    """Times whole windows: cached AR, MDLM by number of steps, transformers' generate.

    Returns:
      For each batch size: rows with seconds, tokens per second and nfe; and break_even,
      the number of steps at which MDLM is as fast as AR (None if outside the range).
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
    nfe = {"ar": calls, "transformers": length}
    programs: dict[str, Callable[[], Any]] = {"ar": draw}

    def sample(name: str, draw: Callable[[], SampleOutput]) -> None:
        nfe[name] = int(draw().nfe)

    for steps in num_steps:
        draw = _draw(mdlm, length, batch, SampleConfig(num_steps=steps))
        programs[f"mdlm {steps}"] = functools.partial(sample, f"mdlm {steps}", draw)
    if hf_baseline.is_installed():
        device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        programs["transformers"] = hf_baseline.generate(cfg.model, batch, device)
    spreads = alternate(programs, repeats=repeats, patience=patience)
    rows = {
        name: row(spread, batch * length) | {"nfe": nfe[name]}
        for name, spread in spreads.items()
    }
    by_steps = {steps: spreads[f"mdlm {steps}"].median for steps in num_steps}
    return {"rows": rows, "break_even": break_even(by_steps, spreads["ar"].median)}


def table(found: dict[str, Any]) -> str:
    """The results as text."""
    text = lines(found["training"]) if "training" in found else []
    text += loop.lines(found["loop"]) if "loop" in found else []
    if "evaluation" in found:
        part = found["evaluation"]
        text += ["", f"evaluation, batch {part['batch']}", _rows(part["families"])]
    for batch, part in found.get("sampling", {}).items():
        text += ["", f"sampling, batch {batch}", _rows(part["rows"])]
        steps = part["break_even"]
        text.append(
            "MDLM is as fast as AR at "
            + (
                "none of these numbers of steps"
                if steps is None
                else f"{steps:.0f} steps"
            )
        )
    return "\n".join(text).strip()


def _rows(rows: dict[str, dict[str, Any]]) -> str:
    header = ("", "tokens/s", "seconds", "extremes", "calls")
    lines = (
        (
            name,
            f"{row['tokens_per_second']:,.0f}",
            f"{row['seconds']:.4f}",
            f"{row['low']:.4f} to {row['high']:.4f}",
            row.get("nfe", ""),
        )
        for name, row in rows.items()
    )
    return to_text(header, *lines)


def _score(score: Callable, params: Any, x: jax.Array, draws: int) -> None:
    jax.block_until_ready(score(params, x, jax.random.key(2), draws))


def _draw(
    lm: LanguageModel, length: int, batch: int, cfg: SampleConfig, seed: int = 0
) -> Callable[[], SampleOutput]:
    params = jax.jit(lm.init)(jax.random.key(0))
    template = np.full((batch, length), MASK, np.int32)
    draw = compile_sampler(lm, params, jax.random.key(seed), template, cfg)
    return functools.partial(draw, 0)


def _full_windows(
    lm: LanguageModel, length: int, batch: int
) -> tuple[Callable[[], SampleOutput], int]:
    """AR's sampler with a key whose samples fill the window, and its NFE."""
    for seed in range(100):
        draw = _draw(lm, length, batch, SampleConfig(), seed)
        calls = int(draw().nfe)
        if calls == length:
            return draw, calls
    raise ValueError(
        f"no seed of 100 gave AR samples of {length} tokens without EOS: pass a "
        "smaller --config.model.length or --batches"
    )


def torch_version() -> dict[str, str]:
    """Version of PyTorch; empty where it is not installed."""
    is_there = importlib.util.find_spec("torch")
    return {"torch": importlib.metadata.version("torch")} if is_there else {}
