"""How stories were written: what the report plays, and the order in numbers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.families import can_look_ahead
from experiments.once import once
from lm_jax import app, run_directory
from lm_jax.config import Config
from lm_jax.sampling.order import order
from lm_jax.sampling.playback import playback
from lm_jax.sampling.text import Sample, read_samples

NUM_INFILLS = 2  # side by side, as two families are


def traces(
    family: app.Family, cfg: Config, path: Path, samples: Sequence[Sample]
) -> dict[str, Any]:
    """The part of a family in results.json that says how it writes.

    Args:
      family, cfg, path: of the run.
      samples: its stories, traced.

    Returns:
      order: estimates; traces: playbacks of the first stories; can_look_ahead: whether
      the family can be given text behind a gap; infills: playbacks of the gaps that the
      config asks for, where it can.
    """
    lm = family(cfg)
    tokenizer = run_directory.open_run(path, lm.name).tokenizer
    found = order(samples, cfg.evaluate.num_resamples, cfg.seed)
    is_able = can_look_ahead(lm)
    infills = _infills(family, cfg, path) if is_able and cfg.report.infill else []
    return {
        "order": {name: estimate._asdict() for name, estimate in found.items()},
        "traces": [playback(tokenizer, s) for s in samples[: cfg.report.num_played]],
        "can_look_ahead": is_able,
        "infills": [playback(tokenizer, sample) for sample in infills],
    }


def _infills(family: app.Family, cfg: Config, path: Path) -> list[Sample]:
    """Filled once, and kept in infills.jsonl."""
    sampler = dataclasses.replace(cfg.sample, num_samples=NUM_INFILLS)
    wanted = {
        "seed": cfg.seed,
        "settings": dataclasses.asdict(sampler),
        "infill": cfg.report.infill,
    }
    file = path / "infills.jsonl"

    def write() -> dict[str, Any]:
        app.sample(
            family,
            path,
            sampler,
            seed=cfg.seed,
            infill=cfg.report.infill,
            out=file,
            trace=True,
        )
        return {}

    once(path / "infills.json", wanted, write)
    return read_samples(file)
