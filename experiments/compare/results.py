"""results.json: every number of every table, and what is needed to make it again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.compare.held_out import HumanReference
from experiments.provenance import made_by
from lm_jax import files, progress
from lm_jax.config import Config
from lm_jax.data.storyworld.agreement import KINDS
from lm_jax.evaluation import variety
from lm_jax.evaluation.diversity import diversity
from lm_jax.evaluation.fluency import fluency
from lm_jax.evaluation.grammar import (
    backward_kl,
    error_shares,
    forward_kl,
    source_nats,
)
from lm_jax.evaluation.intervals import Estimate, as_json, ratio_interval
from lm_jax.evaluation.openings import opening_shares, openings, openings_by_length
from lm_jax.training import hooks

FORMAT = 1  # of results.json
NUM_SHOWN = 20  # stories in the report
CURVE = ("step", "tokens", "flops", "seconds", "nats_per_token", "standard_error")
TRAIN_CURVE = ("step", "nats_per_token", "tokens_per_second")


def assemble(
    cfg: Config, command: str, families: dict[str, dict[str, Any]], held: HumanReference
) -> dict[str, Any]:
    """Everything in its place.

    Args:
      cfg, command: of the comparison.
      families: by name; "stories" holds the samples, which are measured here.
      held: what they are held against.
    """
    # Distinct counts grow with the number of stories: every row has equally many, and
    # for some measures equally many words.
    counts = [len(part["stories"]) for part in families.values()]
    num_stories = min(counts + ([len(held.human)] if held.human else []))
    samples = {n: part["stories"][:num_stories] for n, part in families.items()}
    texts = {name: [s.text for s in stories] for name, stories in samples.items()}
    if held.human:
        texts["human"] = held.human[:num_stories]
    limit = min(map(variety.num_words, texts.values()))
    measured = {}
    for name, part in progress.over(families.items(), "measuring", "families"):
        is_finished = [sample.finished for sample in samples[name]]
        measured[name] = {
            **{key: value for key, value in part.items() if key != "stories"},
            **measure(cfg, texts[name], is_finished, held, limit),
        }
        if held.window_nats is not None:
            part = measured[name]
            part["grammar"] |= _divergences(cfg, part, held, texts[name])
    return {
        "format": FORMAT,
        **made_by(command, cfg),
        "seed": cfg.seed,
        "corpus": held.corpus,
        "families": measured,
        "human": measure(
            cfg, texts["human"], held.is_finished[:num_stories], held, limit
        )
        if held.human
        else {},
        "differences": differences(cfg, measured),
    }


def measure(
    cfg: Config,
    stories: Sequence[str],
    is_finished: Sequence[bool],
    held: HumanReference,
    num_words: int,
) -> dict[str, Any]:
    """Variety, openings and fluency of some stories, generated or human.

    `num_words` is that of the shortest set of stories: "variety" is of so many words.
    """
    resampling = {"num_resamples": cfg.evaluate.num_resamples, "seed": cfg.seed}
    cut = variety.first_words(stories, num_words)
    by_length = openings_by_length(stories, held.training, **resampling)
    grammar: dict[str, Any] = {}
    if held.log_prob is not None and held.errors is not None:
        log_p = np.array([held.log_prob(story) for story in stories])
        nats = source_nats(log_p, **resampling)
        grammar = {
            "errors": _rows(error_shares(stories, held.errors, KINDS)),
            "source_nats_per_story": nats and as_json(nats),
        }
    return {
        "num_stories": len(stories),
        "num_words": num_words,
        "diversity": _rows(diversity(stories, **resampling)),
        "variety": _rows(variety.variety(cut, **resampling)),
        "openings": _rows(openings(stories, held.training)),
        "openings_by_length": {n: _rows(row) for n, row in by_length.items()},
        "opening_shares": [list(pair) for pair in opening_shares(stories)],
        "fluency": _rows(
            fluency(
                stories,
                held.reference,
                held.log_prob,
                np.array(is_finished),
                **resampling,
            )
        ),
        "grammar": grammar,
        "samples": list(stories[:NUM_SHOWN]),
    }


def differences(cfg: Config, measured: dict[str, Any]) -> dict[str, Any]:
    """Each other family's nats per token minus the first's, paired window by window."""
    first, *others = measured
    scores = measured[first]["likelihood"]
    found = {}
    for other in others:
        theirs = measured[other]["likelihood"]
        gap = np.array(theirs["window_nats"]) - np.array(scores["window_nats"])
        tokens = np.array(scores["window_tokens"])
        found[other] = ratio_interval(gap, tokens, cfg.evaluate.num_resamples, cfg.seed)
    return {"nats_per_token": _rows(found)}


def _divergences(
    cfg: Config, part: dict[str, Any], held: HumanReference, stories: Sequence[str]
) -> dict[str, Any]:
    """How far a model is from the grammar: on the grammar's text, and on its own."""
    resampling = {"num_resamples": cfg.evaluate.num_resamples, "seed": cfg.seed}
    scores = part["likelihood"]
    nats = np.array(scores["window_nats"])
    tokens = np.array(scores["window_tokens"])
    assert held.window_nats is not None and held.log_prob is not None
    source = np.array(held.window_nats[: len(nats)])
    found = {"forward_kl_per_token": forward_kl(nats, source, tokens, **resampling)}
    log_p = np.array([held.log_prob(story) for story in stories])
    own = np.array(part["sampling"].pop("log_p", []))[: len(stories)]
    backward = backward_kl(own, log_p, **resampling) if len(own) else None
    return _rows(found) | {"backward_kl_per_story": backward and as_json(backward)}


def read_training(path: Path) -> dict[str, Any]:
    """The learning curves and the clocks of a finished run."""
    lines = hooks.read_metrics(path)
    return {
        "training": files.read_json(path / "training.json"),
        "curve": _curve(lines, "validation", CURVE),
        "train_curve": _curve(lines, "train", TRAIN_CURVE),
    }


def _curve(
    lines: list[dict[str, Any]], split: str, names: Sequence[str]
) -> list[dict[str, Any]]:
    return [
        {name: line[name] for name in names if name in line}
        for line in lines
        if line["split"] == split
    ]


def _rows(table: dict[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {name: as_json(estimate) for name, estimate in table.items()}


def read_results(workdir: str | Path) -> dict[str, Any]:
    """The numbers of a run.

    Raises:
      ValueError: there are none, or they are not what a comparison writes.
    """
    path = Path(workdir) / "results.json"
    try:
        results = files.read_json(path)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): finish the run first with "
            f"python -m experiments.compare --workdir={workdir}"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}): run experiments.compare again"
        ) from error
    found = results.get("format") if isinstance(results, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{path} has format {found!r} and this version reads format {FORMAT}: "
            "run experiments.compare again"
        )
    return results
