"""The frontier of quality, variety and sampling time over settings of the samplers.

Each setting of a sampler is one trade-off: a lower temperature gives better and less
varied samples. Families are compared along whole frontiers, with human text as a point.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.compare.held_out import HumanReference
from experiments.compare.samples import SAMPLES, drawn
from experiments.families import FAMILIES, own_configs
from lm_jax.config import Config, SampleConfig
from lm_jax.evaluation.bleu import candidate_bleus
from lm_jax.evaluation.diversity import distinct_estimate
from lm_jax.evaluation.fluency import accepted_share, seen_ngram_share
from lm_jax.evaluation.intervals import Estimate, as_json, mean_interval
from lm_jax.evaluation.openings import opening_distance
from lm_jax.language_model import Family

NUM_SHOWN = 4  # samples of each setting in the report
BASE = "base"  # name of the run's own settings


def settings(cfg: Config, family: Family) -> dict[str, SampleConfig]:
    """Sampler settings by name: the run's own and, for a frontier, one for each value.

    Each further setting changes one field of the run's own settings.
    """
    if not cfg.frontier.num_samples:
        return {BASE: cfg.sample}
    base = dataclasses.replace(cfg.sample, num_samples=cfg.frontier.num_samples)
    found = {BASE: base}
    for field, values in (
        ("temperature", cfg.frontier.temperatures),
        ("top_p", cfg.frontier.top_ps),
        ("num_steps", cfg.frontier.num_steps),
    ):
        if field == "num_steps" and not family.has_steps:
            continue
        for value in values:
            value = type(getattr(base, field))(value)
            if value != getattr(base, field):
                changed: dict[str, Any] = {field: value}
                found[f"{field}={value:g}"] = dataclasses.replace(base, **changed)
    for sampler in cfg.frontier.samplers:
        if sampler in family.samplers():
            found[f"sampler={sampler}"] = dataclasses.replace(base, sampler=sampler)
    return found


def frontier(
    cfg: Config, workdir: Path, human_reference: HumanReference
) -> dict[str, Any]:
    """A point for each setting of each family, and a point of human text.

    Returns:
      {"num_stories": ..., "families": {name: [point]}, "human": point}. A point holds
      setting, seconds_per_story, some samples, and the `measures` of "num_stories"
      texts.
    """
    num_stories = min(cfg.frontier.num_samples, len(human_reference.human) or 2**31)
    points = {}
    for label, own in own_configs(cfg).items():
        family = FAMILIES[label]
        points[family.name] = [
            {
                "setting": setting,
                "seconds_per_story": seconds,
                **_rows(measures(texts[:num_stories], human_reference, cfg)),
                "samples": texts[:NUM_SHOWN],
            }
            for setting, (texts, seconds) in sample_settings(
                family, own, workdir / family.name
            ).items()
        ]
    return {
        "num_stories": num_stories,
        "families": points,
        "human": _rows(
            measures(human_reference.human[:num_stories], human_reference, cfg)
        )
        if human_reference.human
        else {},
    }


def measures(
    texts: Sequence[str], human_reference: HumanReference, cfg: Config
) -> dict[str, Estimate]:
    """Quality and variety of a point, with intervals over its texts."""
    resampling = (cfg.evaluate.num_resamples, cfg.seed)
    found = {
        "seen_4gram_share": seen_ngram_share(
            texts, human_reference.reference.ngrams_4, 4, *resampling
        ),
        "distinct_4": distinct_estimate(texts, 4),
        "self_bleu": mean_interval(candidate_bleus(texts, cfg.seed), *resampling),
        "opening_distance": opening_distance(texts, human_reference.training),
    }
    if human_reference.log_prob is not None:
        found["accepted_share"] = accepted_share(texts, human_reference.log_prob)
    return found


def sample_settings(
    family: Family, cfg: Config, path: Path
) -> dict[str, tuple[list[str], float]]:
    """Samples of each setting and seconds per sample; each setting is sampled once.

    The run's own samples are used where there are enough of them.
    """
    found, which = {}, cfg.evaluate.checkpoint
    for setting, sampler in settings(cfg, family).items():
        if _is_own(setting, sampler, cfg):
            samples, record = drawn(
                family,
                path,
                SAMPLES,
                cfg.sample,
                trace=True,
                seed=cfg.seed,
                which=which,
            )
        else:
            samples, record = drawn(
                family, path, f"frontier/{setting}", sampler, seed=cfg.seed, which=which
            )
        texts = [sample.text for sample in samples]
        seconds = record["seconds"] / max(record["num_samples"], 1)
        found[setting] = (texts[: cfg.frontier.num_samples], seconds)
    return found


def draw_others(family: Family, cfg: Config, path: Path) -> None:
    """Draws what `sample_settings` needs beside the run's own samples."""
    which = cfg.evaluate.checkpoint
    for setting, sampler in settings(cfg, family).items():
        if not _is_own(setting, sampler, cfg):
            drawn(
                family, path, f"frontier/{setting}", sampler, seed=cfg.seed, which=which
            )


def _is_own(setting: str, sampler: SampleConfig, cfg: Config) -> bool:
    """Whether the run's own samples, if there are enough, are those of a setting."""
    return setting == BASE and sampler.num_samples <= cfg.sample.num_samples


def _rows(table: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: as_json(estimate) for name, estimate in table.items()}
