"""Quality against variety against seconds, over settings of the samplers.

One setting of a sampler is one trade: colder text is better and more alike. Families
are compared along their whole frontiers, beside the point where human text lies.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.compare.held_out import HumanReference
from experiments.compare.samples import SAMPLES, drawn
from experiments.families import FAMILIES, own_configs
from lm_jax import app
from lm_jax.config import Config, SampleConfig
from lm_jax.evaluation.bleu import candidate_bleus
from lm_jax.evaluation.diversity import distinct_estimate
from lm_jax.evaluation.fluency import accepted_share, seen_ngram_share
from lm_jax.evaluation.intervals import Estimate, as_json, mean_interval
from lm_jax.evaluation.openings import opening_distance
from lm_jax.language_model import LanguageModel

NUM_SHOWN = 4  # stories of each setting in the report
# Which settings a family's sampler has: left to right there is no number of steps.
STEPLESS = {"ar"}
BASE = "base"  # the run's own sampler


def settings(cfg: Config, lm: LanguageModel) -> dict[str, SampleConfig]:
    """The run's own sampler and, where a frontier is asked for, one with each other
    value of each setting."""
    if not cfg.frontier.num_samples:
        return {BASE: cfg.sample}
    base = dataclasses.replace(cfg.sample, num_samples=cfg.frontier.num_samples)
    found = {BASE: base}
    for field, values in (
        ("temperature", cfg.frontier.numbers("temperatures")),
        ("top_p", cfg.frontier.numbers("top_ps")),
        ("num_steps", cfg.frontier.numbers("num_steps")),
    ):
        if field == "num_steps" and lm.name in STEPLESS:
            continue
        for value in values:
            value = type(getattr(base, field))(value)
            if value != getattr(base, field):
                changed: dict[str, Any] = {field: value}
                found[f"{field}={value:g}"] = dataclasses.replace(base, **changed)
    for sampler in cfg.frontier.names("samplers"):
        if sampler in lm.samplers:
            found[f"sampler={sampler}"] = dataclasses.replace(base, sampler=sampler)
    return found


def frontier(cfg: Config, workdir: Path, held: HumanReference) -> dict[str, Any]:
    """A point for each setting of each family, and the human one.

    Returns:
      {"num_stories": ..., "families": {name: [point]}, "human": point}; a point holds
      setting, seconds_per_story, some samples, and `measures` of equally many stories.
    """
    num_stories = min(cfg.frontier.num_samples, len(held.human) or 2**31)
    points = {}
    for label, own in own_configs(cfg).items():
        family = FAMILIES[label]
        lm = family(own)
        points[lm.name] = [
            {
                "setting": setting,
                "seconds_per_story": seconds,
                **_rows(measures(stories[:num_stories], held, cfg)),
                "samples": stories[:NUM_SHOWN],
            }
            for setting, (stories, seconds) in _written(
                family, own, workdir / lm.name, lm
            ).items()
        ]
    return {
        "num_stories": num_stories,
        "families": points,
        "human": _rows(measures(held.human[:num_stories], held, cfg))
        if held.human
        else {},
    }


def measures(
    stories: Sequence[str], held: HumanReference, cfg: Config
) -> dict[str, Estimate]:
    """Quality and variety of a point, with intervals over its stories."""
    resampling = (cfg.evaluate.num_resamples, cfg.seed)
    found = {
        "seen_4gram_share": seen_ngram_share(
            stories, held.reference.ngrams_4, 4, *resampling
        ),
        "distinct_4": distinct_estimate(stories, 4),
        "self_bleu": mean_interval(candidate_bleus(stories, cfg.seed), *resampling),
        "opening_distance": opening_distance(stories, held.training),
    }
    if held.log_prob is not None:
        found["accepted_share"] = accepted_share(stories, held.log_prob)
    return found


def _written(
    family: app.Family, cfg: Config, path: Path, lm: LanguageModel
) -> dict[str, tuple[list[str], float]]:
    """Stories of each setting, and seconds for a story; each is written once.

    Those of the run's own sampler are there already.
    """
    found = {}
    for setting, sampler in settings(cfg, lm).items():
        name, is_own = f"frontier/{setting}", False
        if setting == BASE and sampler.num_samples <= cfg.sample.num_samples:
            name, sampler, is_own = SAMPLES, cfg.sample, True
        samples, record = drawn(
            family, path, name, sampler, seed=cfg.seed, trace=is_own
        )
        stories = [sample.text for sample in samples]
        seconds = record["seconds"] / max(record["num_samples"], 1)
        found[setting] = (stories[: cfg.frontier.num_samples], seconds)
    return found


def _rows(table: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: as_json(estimate) for name, estimate in table.items()}
