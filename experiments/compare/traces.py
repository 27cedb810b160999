"""Traces of sampling for the report's player, and statistics of the token order."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.compare.samples import drawn
from lm_jax import run
from lm_jax.config import Config
from lm_jax.evaluation.intervals import as_json
from lm_jax.language_model import Family
from lm_jax.sampling.order import order
from lm_jax.sampling.samples_file import Sample
from lm_jax.sampling.trace import playback

NUM_INFILLS = 2  # shown side by side, like the two families


def traces(
    family: Family, cfg: Config, path: Path, samples: Sequence[Sample]
) -> dict[str, Any]:
    """The part of results.json about the sampling order of a family.

    Args:
      family: model family of the run.
      cfg: configuration of the run.
      path: directory of the run.
      samples: samples of the run, with traces.

    Returns:
      order: estimates; traces: playbacks of the first samples; can_look_ahead: whether
      the family can condition on text after a gap; infills: playbacks of the config's
      infill, for families that can.
    """
    tokenizer = run.open_run(path, family.name).tokenizer
    found = order(samples, cfg.evaluate.num_resamples, cfg.seed)
    return {
        "order": {name: as_json(estimate) for name, estimate in found.items()},
        "traces": [playback(tokenizer, s) for s in samples[: cfg.report.num_played]],
        "can_look_ahead": family.can_infill,
        "infills": [playback(tokenizer, s) for s in infills(family, cfg, path)],
    }


def infills(family: Family, cfg: Config, path: Path) -> list[Sample]:
    """Samples of the config's infill, drawn once; none if the family fills no gaps."""
    if not (family.can_infill and cfg.report.infill):
        return []
    sampler = dataclasses.replace(cfg.sample, num_samples=NUM_INFILLS)
    infill = cfg.report.infill
    filled, _ = drawn(
        family,
        path,
        "infills",
        sampler,
        seed=cfg.seed,
        which=cfg.evaluate.checkpoint,
        infill=infill,
        trace=True,
    )
    return filled
