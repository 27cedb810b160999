"""Checks every likelihood of the library against the entropy of a known source.

python -m experiments.audit_bounds --workdir=runs/tiny --out=bounds.json

No model needs fewer nats than the source of its text, on average over texts: for every
likelihood and every upper bound, E[-log q(x)] >= E[-log p(x)]. The command scores
held-out windows of a comparison on storyworld by every objective, every estimator and
every sampler that has a likelihood, and compares each with the exact -log p of the
grammar, window by window. A row is violated if the whole 95% interval of its distance
lies below zero; then the exit status is 1. The objective `token_mean` is no bound: its
row says how far it is from one.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float

from experiments import sweep
from experiments.compare.held_out import source_nats
from experiments.families import FAMILIES
from experiments.provenance import command_of, made_by
from experiments.report.format import estimate
from experiments.report.table import to_text
from lm_jax import command_line, files, progress, run
from lm_jax.config import EvaluateConfig, SampleConfig, require
from lm_jax.evaluation import calibration
from lm_jax.evaluation.intervals import as_json, ratio_interval
from lm_jax.evaluation.likelihood import by_row, over_windows, window_nats
from lm_jax.keys import Stream, stream
from lm_jax.language_model import LanguageModel
from lm_jax.run import Trained
from lm_jax.types import PAD, Windows
from mdlm_jax.objective import OBJECTIVES

WindowNats = Float[np.ndarray, " N"]
NO_BOUND = {"objective token_mean"}  # it weights every masked token alike


class Estimator(NamedTuple):
    """A way to score windows.

    Attributes:
      family: name of the family.
      name: the objective, the likelihood or the sampler with its steps.
      nats: () -> nats of each window; infinite where it has probability zero.
    """

    family: str
    name: str
    nats: Callable[[], WindowNats]


def estimators(
    model: Trained, windows: Windows, num_draws: int, num_orders: int
) -> Iterator[Estimator]:
    """Every objective, estimator and sampler of a model."""
    family, lm, trained, params, _ = model
    key = stream(trained.cfg.seed, Stream.SCORING)
    drawing: dict[str, Any] = {
        "num_draws": num_draws,
        "batch_size": trained.cfg.evaluate.batch_size,
    }
    for name in OBJECTIVES if lm.is_bound else ("",):
        cfg = trained.cfg
        if name:
            cfg = sweep.replace_fields(cfg, {f"{family.name}.objective": name})
        own = family.make(cfg)
        yield Estimator(
            family.name,
            f"objective {name}".strip(),
            partial(objective_nats, model, own, windows, num_draws),
        )
    yield Estimator(
        family.name,
        "log_likelihood",
        lambda: window_nats(lm, params, windows, key=key, **drawing)[0],
    )
    if lm.diagnostics is not None:
        yield Estimator(
            family.name,
            "token_scores",
            lambda: weighted(
                calibration.predict(lm, params, windows, key=key, **drawing)
            ),
        )
    length = windows.shape[1]
    few = length // 8
    for name in family.samplers():
        for steps in (few, 0) if family.has_steps else (0,):
            sampler = SampleConfig(sampler=name, num_steps=steps, block_size=4)
            resolved = family.resolve(sampler)
            try:
                family.order(resolved, length)
            except ValueError:
                continue  # it has no likelihood
            if steps and resolved.num_steps != steps:
                continue  # its preset has its own number
            label = f"sampler {name}"
            yield Estimator(
                family.name,
                f"{label}, num_steps={steps}" if steps else label,
                partial(sampler_nats, model, sampler, len(windows), num_orders),
            )


def objective_nats(
    model: Trained, lm: LanguageModel, windows: Windows, num_draws: int
) -> WindowNats:
    """The mean of the training loss of each window over draws; window i draws from
    fold_in(key of the draw, i)."""
    key = stream(model.run.cfg.seed, Stream.VALIDATION)

    @jax.jit
    def batch(x: Any, index: Any) -> Any:
        def one(row: Any, row_key: Any) -> Any:
            def draw(i: Any) -> Any:
                of_draw = jax.random.fold_in(row_key, i)
                return jnp.sum(lm.token_nll(model.params, row, of_draw), axis=1)

            return jnp.mean(jax.lax.map(draw, jnp.arange(num_draws)), axis=0)

        return by_row(one)(x, key, index)

    size = model.run.cfg.evaluate.batch_size
    return np.asarray(over_windows(batch, windows, size), np.float64)


def weighted(predictions: calibration.Predictions) -> WindowNats:
    """The score of each window from its single predictions."""
    draws = predictions.position.shape[1] // (1 + int(predictions.position.max()))
    return np.sum(predictions.weight * predictions.nats, axis=1) / draws


def sampler_nats(
    model: Trained, sampler: SampleConfig, num_windows: int, num_orders: int
) -> WindowNats:
    """-log p of the sampler, or its upper bound from num_orders orders."""
    cfg = dataclasses.replace(
        model.run.cfg.evaluate, max_windows=num_windows, num_orders=num_orders
    )
    found = run.evaluate(model, cfg, sampler=sampler)
    return np.array(found.get("window_nats", np.full(num_windows, np.inf)))


def audited(workdir: Path, cfg: EvaluateConfig) -> list[dict[str, Any]]:
    """A row for each estimator of every run in `workdir`.

    Args:
      workdir: directory of a comparison on storyworld.
      cfg: max_windows, num_draws, num_orders and num_resamples.

    Raises:
      ValueError: its text has no known source, or there is no run.
    """
    runs = [f for f in FAMILIES.values() if files.exists(workdir / f.name)]
    require(
        bool(runs),
        f"{workdir} holds no run of {', '.join(f.name for f in FAMILIES.values())}: "
        "pass the --workdir of a comparison",
    )
    rows = []
    for family in runs:
        model = run.load(workdir / family.name, family)
        data = model.run.cfg.data
        require(
            data.corpus == "storyworld" and data.windows == "document",
            f"the text of {model.run.path} has no known source: pass the --workdir of "
            'a comparison on storyworld, with data.windows="document"',
        )
        is_full = np.all(model.run.valid != PAD, axis=1)
        windows = model.run.valid[is_full][: cfg.max_windows or None]
        require(len(windows) > 1, "fewer than two held-out windows are full")
        source = np.array(source_nats(model.run._replace(valid=windows)))
        tokens = np.full(len(windows), windows.shape[1])
        todo = list(estimators(model, windows, cfg.num_draws, cfg.num_orders))
        for one in progress.over(todo, family.name, "estimators"):
            nats = np.asarray(one.nats(), np.float64)
            row = {"family": one.family, "name": one.name, "num_windows": len(nats)}
            if not np.isfinite(nats).all():  # infinitely far above the source
                rows.append(row | {"above_source": None, "verdict": "holds"})
                continue
            gap = ratio_interval(nats - source, tokens, cfg.num_resamples, 0)
            verdict = "holds" if gap.high is None or gap.high >= 0.0 else "violated"
            if one.name in NO_BOUND:
                verdict = "no bound"
            rows.append(
                row
                | {
                    "nats_per_token": float(nats.sum() / tokens.sum()),
                    "above_source": as_json(gap),
                    "verdict": verdict,
                }
            )
    return rows


def main() -> None:
    """Runs the command."""
    values, workdir = flags.FLAGS, command_line.path("workdir")
    out = command_line.output("out")
    cfg = EvaluateConfig(
        max_windows=values.max_windows,
        num_draws=values.num_draws,
        num_orders=values.num_orders,
    )
    rows = audited(workdir, cfg)
    lines = [
        (
            f"{row['family']}: {row['name']}",
            f"{row['nats_per_token']:.3f}" if "nats_per_token" in row else "infinite",
            estimate(row["above_source"]),
            row["verdict"],
        )
        for row in rows
    ]
    print(to_text(("", "nats per token", "above the source", ""), *lines))
    if out is not None:
        cfg_of_run = run.read_config(workdir / rows[0]["family"])
        made = made_by(command_of("audit_bounds"), cfg_of_run)
        files.write_json(out, {**made, "rows": rows})
    bad = [row["name"] for row in rows if row["verdict"] == "violated"]
    print(f"{len(rows) - len(bad)} of {len(rows)} hold" if bad else "all bounds hold")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory of a comparison on storyworld.")
    flags.DEFINE_string("out", "", "JSON file of the rows; default: none.")
    flags.DEFINE_integer("max_windows", 64, "Full held-out windows to score.")
    flags.DEFINE_integer("num_draws", 64, "Draws per window of objectives and bounds.")
    flags.DEFINE_integer("num_orders", 8, "Orders per window of random samplers.")
    command_line.run(main, required={"workdir": "DIR"})
