"""Exact likelihoods of all families on the same windows.

A family whose likelihood is a bound has exact values all the same: those of its
samplers that write in an order of visible tokens. `evaluate.samplers` names them. The
lowest one of a family is compared with the value of a family that is exact by itself.
"""

import dataclasses
from typing import Any

import numpy as np

from experiments.compare.frontier import changes_of
from lm_jax import run
from lm_jax.config import Config
from lm_jax.evaluation.intervals import as_json, ratio_interval
from lm_jax.run import Trained
from lm_jax.types import PAD

Part = dict[str, Any]  # part of results.json for a family


def sampler_scores(model: Trained, cfg: Config) -> dict[str, dict[str, Any]]:
    """The likelihood under each sampler of cfg.evaluate.samplers that the family has.

    The first cfg.evaluate.sampler_windows full windows are scored; without any, as for
    a text that is shorter than a window, nothing is.
    """
    if not np.any(np.all(model.run.valid != PAD, axis=1)):
        return {}
    limits = (cfg.evaluate.max_windows, cfg.evaluate.sampler_windows)
    few = min(limit for limit in limits if limit)
    of_few = dataclasses.replace(cfg.evaluate, max_windows=few)
    found = {}
    for entry in cfg.evaluate.samplers:
        sampler = dataclasses.replace(cfg.sample, **changes_of(entry))
        if sampler.sampler in model.family.samplers():
            found[entry] = run.evaluate(model, of_few, sampler=sampler)
    return found


def add_exact(cfg: Config, families: dict[str, Part]) -> dict[str, Any]:
    """Adds the exact value of each family on the windows that the samplers scored.

    A part gets "exact", {"nats_per_token": estimate over windows}, and "exact_of": the
    number of windows, and the sampler with the lowest value; "" for a family whose own
    likelihood is exact.

    Returns:
      By name of each other family, its value minus the first's, paired by window; {}
      unless all families have a value.
    """
    options = (cfg.evaluate.num_resamples, cfg.seed)
    scores = {name: part["likelihood"] for name, part in families.items()}
    measured = {
        name: {
            entry: found
            for entry, found in own.get("samplers", {}).items()
            if found.get("kind") == "exact" and found["nats_per_token"] is not None
        }
        for name, own in scores.items()
    }
    scored = [found for own in measured.values() for found in own.values()]
    if not scored:
        return {}
    windows = np.array(scored[0]["windows"])  # the same for all
    all_tokens = np.array(scores[next(iter(families))]["window_tokens"])
    has_value = [measured[name] or not scores[name]["is_bound"] for name in families]
    if not all(has_value) or windows[-1] >= len(all_tokens):
        return {}
    tokens = all_tokens[windows]
    nats = {}
    for name, part in families.items():
        entry = ""
        if scores[name]["is_bound"]:
            own = measured[name]
            entry = min(own, key=lambda entry: own[entry]["nats_per_token"])
            nats[name] = np.array(own[entry]["window_nats"])
        else:
            nats[name] = np.array(scores[name]["window_nats"])[windows]
        part["exact"] = {
            "nats_per_token": as_json(ratio_interval(nats[name], tokens, *options))
        }
        part["exact_of"] = {"sampler": entry, "num_windows": len(windows)}
    first, *others = families
    return {
        other: as_json(ratio_interval(nats[other] - nats[first], tokens, *options))
        for other in others
    }
