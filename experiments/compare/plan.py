"""Validates the whole configuration of a comparison before any training."""

import dataclasses
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np

from experiments.compare import judge
from experiments.compare.frontier import changes_of, settings
from experiments.compare.held_out import human_texts
from experiments.families import FAMILIES, own_configs
from lm_jax import progress
from lm_jax.config import Config, require
from lm_jax.data import dataset
from lm_jax.data.dataset import Dataset
from lm_jax.language_model import Family
from lm_jax.sampling.templates import escaped, make_template
from lm_jax.training import budget
from lm_jax.training.optimizer import make_optimizer
from lm_jax.types import MASK

_resolved: dict[Config, Config] = {}  # what this process has resolved


def resolve(cfg: Config) -> Config:
    """The config with corpus-dependent fields filled in, after all checks.

    The checks trace, without computing, every family with every setting of its sampler.
    They also try the infill, the optimizers and the judge's text. Resolving is
    idempotent.

    Raises:
      ValueError: names the invalid field, and the way out.
    """
    if cfg in _resolved:
        return _resolved[cfg]
    given = cfg
    require(
        cfg.sample.num_samples >= 2,
        f"SampleConfig.num_samples={cfg.sample.num_samples} must be at least 2 in a "
        "comparison, as variety is measured over several samples",
    )
    own_configs(cfg)
    cfg = dataset.fit(cfg)
    data = dataset.load(cfg)
    if cfg.report.infill == "auto":
        infill = dataclasses.replace(cfg.report, infill=_infill(cfg, data))
        cfg = dataclasses.replace(cfg, report=infill)
    known = {name for family in FAMILIES.values() for name in family.samplers()}
    of_frontier = cfg.frontier.samplers if cfg.frontier.num_samples else ()
    for field, entries in (
        ("FrontierConfig", of_frontier),
        ("EvaluateConfig", cfg.evaluate.samplers),
    ):
        for name in (changes_of(entry, field)["sampler"] for entry in entries):
            require(
                name in known,
                f"{field}.samplers names {name!r}, which no family knows: choose from "
                f"{', '.join(sorted(known))}",
            )
    for label, own in own_configs(cfg).items():
        _check_family(own, FAMILIES[label], data)
    _check_judge(cfg, data)
    count = len(human_texts(cfg, data))
    if count < cfg.sample.num_samples:
        rest = (
            "the report has no row of human text"
            if lacks_humans(cfg, count)
            else f"the tables compare the first {count} samples"
        )
        more = (
            "raise --config.data.num_valid_stories"
            if cfg.data.corpus == "storyworld"
            else "raise --config.data.valid_share or pass --config.data.valid_files"
        )
        progress.note(
            f"{count} held-out texts for {cfg.sample.num_samples} samples: {rest}; for "
            f"more, {more}, or lower --config.sample.num_samples"
        )
    _resolved.update({given: cfg, cfg: cfg})
    return cfg


def lacks_humans(cfg: Config, num_texts: int) -> bool:
    """Whether there are too few held-out texts for a human row in the tables.

    All rows use equally many texts, so few held-out texts would shorten all rows.
    """
    return 2 * num_texts < cfg.sample.num_samples


def _check_family(own: Config, family: Family, data: Dataset) -> None:
    lm = family.make(own)
    make_optimizer(
        own.optimizer,
        budget.num_steps(own.train, own.model.length, lm.flops_per_token),
    )
    length = own.sample.length or own.model.length
    require(
        length <= own.model.length,
        f"SampleConfig.length={length} is longer than the window, ModelConfig.length="
        f"{own.model.length}: lower it, or leave it at 0",
    )
    params = jax.eval_shape(lm.init, jax.random.key(0))
    template = np.full((1, length), MASK, np.int32)
    if own.report.infill and family.can_infill:
        template = make_template(data.tokenizer, (1, length), infill=own.report.infill)
    for entry in own.evaluate.samplers:
        sampler = dataclasses.replace(own.sample, **changes_of(entry))
        if sampler.sampler in family.samplers():
            family.order(family.resolve(sampler), own.model.length)
    for sampler in settings(own, family).values():
        draw = partial(lm.sample, shape=(1, length), cfg=sampler, template=template)
        jax.eval_shape(draw, params, jax.random.key(0))


def _check_judge(cfg: Config, data: Dataset) -> None:
    steps = cfg.evaluate.judge_steps
    require(
        steps > 0 or not cfg.evaluate.judge_files,
        f"EvaluateConfig.judge_files={cfg.evaluate.judge_files!r} is read by no judge: "
        "pass --config.evaluate.judge_steps=2000 as well, or leave judge_files out",
    )
    if cfg.evaluate.judge:
        require(
            not steps,
            f"EvaluateConfig.judge={cfg.evaluate.judge!r} and judge_steps={steps} are "
            "two judges: leave one out",
        )
        judge.outside(cfg.evaluate.judge)
    if steps:
        make_optimizer(cfg.optimizer, steps)
        with tempfile.TemporaryDirectory() as directory:
            wanted = judge.judge_config(cfg, Path(directory), data.train_documents)
            try:
                dataset.load(wanted)
            except ValueError as error:
                raise ValueError(
                    f"EvaluateConfig.judge_files={cfg.evaluate.judge_files!r} cannot "
                    f"train a judge of the families' shape ({error}): give more text"
                ) from None


def _infill(cfg: Config, data: Dataset) -> str:
    """A held-out text whose middle third is a gap; "" if none fits the window."""
    if cfg.data.windows != "document":
        return ""
    length = cfg.sample.length or cfg.model.length
    for text in data.valid_documents:
        units = text.split(" ")
        space = " " if len(units) >= 6 else ""
        units = units if space else list(text)
        third = len(units) // 3
        begin, middle, end = units[:third], units[third:-third], units[-third:]
        gap = len(data.tokenizer.encode([space + space.join(middle)])[0])
        infill = (
            f"{escaped(space.join(begin))}{space}[{gap}]"
            f"{space}{escaped(space.join(end))}"
        )
        try:
            make_template(data.tokenizer, (1, length), infill=infill)
        except ValueError:  # the text is too long, or too short for a gap
            continue
        return infill
    return ""
