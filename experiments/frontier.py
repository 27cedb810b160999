"""Quality against variety against seconds, over settings of the samplers.

One setting of a sampler is one trade: colder text is better and more alike. Families
are compared along their whole frontiers, beside the point where human text lies.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.families import FAMILIES, own_configs
from experiments.texts import Texts
from lm_jax import app, run_directory
from lm_jax.config import Config, SampleConfig
from lm_jax.evaluation.bleu import candidate_bleus
from lm_jax.evaluation.diversity import distinct_estimate
from lm_jax.evaluation.fluency import accepted_share, seen_ngram_share
from lm_jax.evaluation.intervals import Estimate, mean_interval
from lm_jax.evaluation.openings import opening_distance
from lm_jax.sampling.text import read_samples

NUM_SHOWN = 4  # stories of each setting in the report
# Which settings a family's sampler has: left to right there is no number of steps.
STEPLESS = {"ar"}


def settings(cfg: Config, name: str) -> dict[str, SampleConfig]:
    """The run's own sampler, and one with each other value of each setting."""
    base = dataclasses.replace(cfg.sample, num_samples=cfg.frontier.num_samples)
    found = {"base": base}
    for field, values in (
        ("temperature", cfg.frontier.numbers("temperatures")),
        ("top_p", cfg.frontier.numbers("top_ps")),
        ("num_steps", cfg.frontier.numbers("num_steps")),
    ):
        if field == "num_steps" and name in STEPLESS:
            continue
        for value in values:
            value = type(getattr(base, field))(value)
            if value != getattr(base, field):
                changed: dict[str, Any] = {field: value}
                found[f"{field}={value:g}"] = dataclasses.replace(base, **changed)
    return found


def frontier(cfg: Config, workdir: Path, held: Texts) -> dict[str, Any]:
    """A point for each setting of each family, and the human one.

    Returns:
      {"num_stories": ..., "families": {name: [point]}, "human": point}; a point holds
      setting, seconds_per_story, some samples, and `measures` of equally many stories.
    """
    num_stories = min(cfg.frontier.num_samples, len(held.human))
    points = {}
    for label, own in own_configs(cfg).items():
        family = FAMILIES[label]
        name = family(own).name
        points[name] = [
            {
                "setting": setting,
                "seconds_per_story": seconds / cfg.frontier.num_samples,
                **_rows(measures(stories[:num_stories], held, cfg)),
                "samples": stories[:NUM_SHOWN],
            }
            for setting, (stories, seconds) in _written(
                family, own, workdir / name, name
            ).items()
        ]
    return {
        "num_stories": num_stories,
        "families": points,
        "human": _rows(measures(held.human[:num_stories], held, cfg)),
    }


def measures(stories: Sequence[str], held: Texts, cfg: Config) -> dict[str, Estimate]:
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
    family: app.Family, cfg: Config, path: Path, name: str
) -> dict[str, tuple[list[str], float]]:
    """Stories and seconds of each setting, written once and kept in frontier/."""
    directory = path / "frontier"
    directory.mkdir(exist_ok=True)
    found = {}
    for setting, sampler in settings(cfg, name).items():
        file, record = (directory / f"{setting}{end}" for end in (".jsonl", ".json"))
        wanted = {"seed": cfg.seed, "settings": dataclasses.asdict(sampler)}
        stored = run_directory.read_json(record) if record.exists() else {}
        if {key: stored.get(key) for key in wanted} != wanted:
            _, effort = app.sample(family, path, sampler, seed=cfg.seed, out=file)
            stored = wanted | {"seconds": effort.seconds}
            run_directory.write_json(record, stored)
        found[setting] = ([s.text for s in read_samples(file)], stored["seconds"])
    return found


def _rows(table: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate._asdict() for name, estimate in table.items()}
