"""Several training seeds of one comparison: their directories and their summary."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from lm_jax.config import Config
from lm_jax.evaluation.intervals import t_interval

GROUPS = ("diversity", "variety", "openings", "fluency", "exact")


def runs(cfg: Config, workdir: Path) -> list[tuple[Config, Path]]:
    """The config and the directory of each seed.

    The first run is in workdir itself, the others are in workdir/seed_1, seed_2, ...
    More seeds can therefore be added later without repeating finished runs. All runs
    have the same training corpus and the same validation windows.
    """
    return [
        (
            dataclasses.replace(cfg, seed=cfg.seed + i, num_seeds=1),
            workdir / f"seed_{cfg.seed + i}" if i else workdir,
        )
        for i in range(cfg.num_seeds)
    ]


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and t-interval over seeds of every metric that all seeds have.

    Args:
      found: results of each seed, as in results.json.

    Returns:
      seeds: list of seeds. families: {name: {"group.metric": estimate and values}}.
      differences: {name of another family: {"group.metric": estimate}}, that family
      minus the first, paired by seed: a seed gives both families the same data order.
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
    """The metrics of a family that are summarised over seeds, as "group.metric"."""
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
