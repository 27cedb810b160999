"""The frontier of quality, variety, likelihood and time over settings of the samplers.

Each setting of a sampler is one trade-off: a lower temperature gives better and less
varied samples. Families are compared along whole frontiers, with human text as a point.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cached_json import cached_json
from experiments.compare.held_out import HumanReference
from experiments.compare.samples import DIRECTORY, SAMPLES, drawn
from experiments.families import FAMILIES, own_configs
from lm_jax import checkpoint, run
from lm_jax.config import Config, SampleConfig, require
from lm_jax.evaluation.bleu import candidate_bleus
from lm_jax.evaluation.diversity import distinct_estimate
from lm_jax.evaluation.fluency import accepted_share, seen_ngram_share
from lm_jax.evaluation.intervals import Estimate, as_json, mean_interval
from lm_jax.evaluation.openings import opening_distance
from lm_jax.evaluation.scores import without_lists
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
    for text in cfg.frontier.samplers:
        changes = changes_of(text)
        if changes["sampler"] in family.samplers():
            found[f"sampler={text}"] = dataclasses.replace(base, **changes)
    return found


def changes_of(text: str, section: str = "FrontierConfig") -> dict[str, Any]:
    """The fields of SampleConfig that an entry of a section's `samplers` changes.

    Raises:
      ValueError: the number of steps is no integer.

    >>> changes_of("spread@28")
    {'sampler': 'spread', 'num_steps': 28}
    """
    name, at, steps = text.partition("@")
    require(
        not at or steps.isdecimal(),
        f"{section}.samplers has {text!r}: write a number of steps after @, as in "
        "spread@28 (@0 is one token per step), or the name alone",
    )
    return {"sampler": name} | ({"num_steps": int(steps)} if at else {})


def frontier(
    cfg: Config, workdir: Path, human_reference: HumanReference
) -> dict[str, Any]:
    """A point for each setting of each family, and a point of human text.

    Returns:
      {"num_stories": ..., "families": {name: [point]}, "human": point}. A point holds
      setting, seconds_per_story, some samples, the `measures` of "num_stories" texts
      and, if it was measured, the "likelihood" of the setting.
    """
    num_stories = min(cfg.frontier.num_samples, len(human_reference.human) or 2**31)
    points = {}
    for label, own in own_configs(cfg).items():
        family = FAMILIES[label]
        path = workdir / family.name
        scored = likelihoods(family, own, path)
        points[family.name] = [
            {
                "setting": setting,
                "seconds_per_story": seconds,
                **_rows(measures(texts[:num_stories], human_reference, cfg)),
                **({"likelihood": scored[setting]} if scored else {}),
                "samples": texts[:NUM_SHOWN],
            }
            for setting, (texts, seconds) in sample_settings(family, own, path).items()
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


def likelihoods(family: Family, cfg: Config, path: Path) -> dict[str, dict[str, Any]]:
    """Likelihood of held-out windows under each setting, computed once.

    A setting that has none has the reason, as "refused".
    """
    if not cfg.frontier.num_windows:
        return {}
    which = cfg.evaluate.checkpoint
    of_few = dataclasses.replace(cfg.evaluate, max_windows=cfg.frontier.num_windows)
    found = {}
    for setting, sampler in settings(cfg, family).items():

        def measure(sampler: SampleConfig = sampler) -> dict[str, Any]:
            try:
                family.order(family.resolve(sampler), cfg.model.length)
            except ValueError as reason:
                return {"refused": str(reason)}
            model = run.load(path, family, which)
            return without_lists(run.evaluate(model, of_few, sampler=sampler))

        wanted = {
            "settings": dataclasses.asdict(sampler),
            "evaluate": dataclasses.asdict(of_few),
            "checkpoint": checkpoint.identity(path / checkpoint.DIRECTORY, which),
        }
        file = path / DIRECTORY / "likelihood" / f"{setting}.json"
        found[setting] = cached_json(
            file, wanted, lambda measure=measure: {"scores": measure()}
        )["scores"]
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
