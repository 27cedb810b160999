"""results.json: all numbers of the report and all settings that produced them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.compare.exact import add_exact
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
from lm_jax.training import metrics

FORMAT = 1  # of results.json
NUM_SHOWN = 20  # texts of each source in the report
CURVE = ("step", "tokens", "flops", "seconds", "nats_per_token", "standard_error")
TRAIN_CURVE = ("step", "nats_per_token", "tokens_per_second")


def assemble(
    cfg: Config,
    command: str,
    families: dict[str, dict[str, Any]],
    human_reference: HumanReference,
) -> dict[str, Any]:
    """The content of results.json.

    Args:
      cfg: configuration of the comparison.
      command: command line of the comparison.
      families: parts of each family by name; "stories" holds its samples.
      human_reference: texts and grammar with which the samples are compared.
    """
    # Counts of distinct items grow with the number of texts: every source has equally
    # many texts and, for some measures, equally many words.
    counts = [len(part["stories"]) for part in families.values()]
    num_stories = min(
        counts + ([len(human_reference.human)] if human_reference.human else [])
    )
    samples = {n: part["stories"][:num_stories] for n, part in families.items()}
    texts = {name: [s.text for s in drawn] for name, drawn in samples.items()}
    if human_reference.human:
        texts["human"] = human_reference.human[:num_stories]
    limit = min(map(variety.num_words, texts.values()))
    measured = {}
    for name, part in progress.over(families.items(), "measuring", "families"):
        is_finished = [sample.finished for sample in samples[name]]
        measured[name] = {
            **{key: value for key, value in part.items() if key != "stories"},
            **measure(cfg, texts[name], is_finished, human_reference, limit),
        }
        if human_reference.window_nats is not None:
            part = measured[name]
            part["grammar"] |= _divergences(cfg, part, human_reference, texts[name])
    return {
        "format": FORMAT,
        **made_by(command, cfg),
        "seed": cfg.seed,
        "corpus": human_reference.corpus,
        "families": measured,
        "human": measure(
            cfg,
            texts["human"],
            human_reference.is_finished[:num_stories],
            human_reference,
            limit,
        )
        if human_reference.human
        else {},
        "differences": {
            "nats_per_token": differences(cfg, measured),
            "exact": add_exact(cfg, measured),
        },
    }


def measure(
    cfg: Config,
    texts: Sequence[str],
    is_finished: Sequence[bool],
    human_reference: HumanReference,
    num_words: int,
) -> dict[str, Any]:
    """Variety, openings and fluency of samples or human texts.

    "variety" uses the first `num_words` words: the size of the smallest source.
    """
    resampling = {"num_resamples": cfg.evaluate.num_resamples, "seed": cfg.seed}
    cut = variety.first_words(texts, num_words)
    by_length = openings_by_length(texts, human_reference.training, **resampling)
    grammar: dict[str, Any] = {}
    if human_reference.log_prob is not None and human_reference.errors is not None:
        log_p = np.array([human_reference.log_prob(text) for text in texts])
        nats = source_nats(log_p, **resampling)
        grammar = {
            "errors": _rows(error_shares(texts, human_reference.errors, KINDS)),
            "source_nats_per_story": nats and as_json(nats),
        }
    return {
        "num_stories": len(texts),
        "num_words": num_words,
        "diversity": _rows(diversity(texts, **resampling)),
        "variety": _rows(variety.variety(cut, **resampling)),
        "openings": _rows(openings(texts, human_reference.training)),
        "openings_by_length": {n: _rows(row) for n, row in by_length.items()},
        "opening_shares": [list(pair) for pair in opening_shares(texts)],
        "fluency": _rows(
            fluency(
                texts,
                human_reference.reference,
                human_reference.log_prob,
                np.array(is_finished),
                **resampling,
            )
        ),
        "grammar": grammar,
        "samples": list(texts[:NUM_SHOWN]),
    }


def differences(cfg: Config, measured: dict[str, Any]) -> dict[str, Any]:
    """Nats per token of each other family minus the first's, paired by window."""
    first, *others = measured
    scores = measured[first]["likelihood"]
    found = {}
    for other in others:
        other_scores = measured[other]["likelihood"]
        gap = np.array(other_scores["window_nats"]) - np.array(scores["window_nats"])
        tokens = np.array(scores["window_tokens"])
        found[other] = ratio_interval(gap, tokens, cfg.evaluate.num_resamples, cfg.seed)
    return _rows(found)


def _divergences(
    cfg: Config,
    part: dict[str, Any],
    human_reference: HumanReference,
    texts: Sequence[str],
) -> dict[str, Any]:
    """Forward and backward KL divergence between the grammar and a model."""
    resampling = {"num_resamples": cfg.evaluate.num_resamples, "seed": cfg.seed}
    scores = part["likelihood"]
    nats = np.array(scores["window_nats"])
    tokens = np.array(scores["window_tokens"])
    assert (
        human_reference.window_nats is not None and human_reference.log_prob is not None
    )
    source = np.array(human_reference.window_nats[: len(nats)])
    found = {"forward_kl_per_token": forward_kl(nats, source, tokens, **resampling)}
    log_p = np.array([human_reference.log_prob(text) for text in texts])
    own = np.array(part["sampling"].pop("log_p", []))[: len(texts)]
    backward = backward_kl(own, log_p, **resampling) if len(own) else None
    return _rows(found) | {"backward_kl_per_story": backward and as_json(backward)}


def read_training(path: Path) -> dict[str, Any]:
    """The learning curves and the timings of a finished run."""
    lines = metrics.read_metrics(path)
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
    """The content of results.json of a run.

    Raises:
      ValueError: if the file is missing or not written by this version.
    """
    path = Path(workdir) / "results.json"
    try:
        results = files.read_json(path)
    except OSError as error:
        above = Path(workdir).parent
        way_out = (
            f"pass --workdir={above}, of which this is one model"
            if (above / "results.json").exists()
            else "finish the run first with python -m experiments.compare "
            f"--workdir={workdir}"
        )
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): {way_out}"
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
