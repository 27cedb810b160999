"""Several training seeds of one comparison: which run lies where, and what they say."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from lm_jax.config import Config
from lm_jax.evaluation.intervals import t_interval

GROUPS = ("diversity", "variety", "openings", "fluency")


def runs(cfg: Config, workdir: Path) -> list[tuple[Config, Path]]:
    """The config and the directory of each seed.

    The first lies in workdir itself, the others in seed_1, seed_2, ... of it: so more
    seeds can be asked for later, and what is finished stays. All learn from the same
    corpus and are tested on the same windows.
    """
    return [
        (
            dataclasses.replace(cfg, seed=cfg.seed + i, num_seeds=1),
            workdir / f"seed_{cfg.seed + i}" if i else workdir,
        )
        for i in range(cfg.num_seeds)
    ]


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and t-interval over seeds of every number that each seed has.

    Args:
      found: the results of each seed.

    Returns:
      seeds; families: {name: {"group.metric": estimate with its values}}; differences:
      {name of another family: {"group.metric": estimate}}, of that family minus the
      first, paired by seed, as one seed gives both families the same order of data.
    """
    names = list(found[0]["families"])
    values = {
        name: [flat(result["families"][name]) for result in found] for name in names
    }
    metrics = [
        metric
        for metric in values[names[0]][0]
        if all(metric in row for rows in values.values() for row in rows)
    ]
    columns = {
        name: {metric: np.array([row[metric] for row in rows]) for metric in metrics}
        for name, rows in values.items()
    }
    first, *others = names
    return {
        "seeds": [result["seed"] for result in found],
        "families": {
            name: {
                metric: {**t_interval(x)._asdict(), "values": x.tolist()}
                for metric, x in column.items()
            }
            for name, column in columns.items()
        },
        "differences": {
            other: {
                metric: t_interval(columns[other][metric] - x)._asdict()
                for metric, x in columns[first].items()
            }
            for other in others
        },
    }


def flat(part: dict[str, Any]) -> dict[str, float]:
    """The numbers of a family that are summarised over seeds, as "group.metric"."""
    curve = [point for point in part["curve"] if "nats_per_token" in point]
    found = {
        "training.tokens_per_second": part["training"]["tokens_per_second"],
        "likelihood.nats_per_token": part["likelihood"]["nats_per_token"],
        "likelihood.bits_per_byte": part["likelihood"]["bits_per_byte"],
    }
    if curve and curve[-1]["step"]:
        best = min(curve, key=lambda point: point["nats_per_token"])
        found["convergence.best_step_share"] = best["step"] / curve[-1]["step"]
    for group in GROUPS:
        for name, estimate in part.get(group, {}).items():
            found[f"{group}.{name}"] = estimate["value"]
    return {name: float(value) for name, value in found.items() if value is not None}
