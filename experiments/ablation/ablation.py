"""Trains and samples under the paper's protocol, one factor at a time."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import sweep
from experiments.ablation.report import markdown
from experiments.compare.comparison import scored_once
from experiments.compare.samples import drawn
from experiments.families import FAMILIES, own_configs
from experiments.provenance import made_by
from lm_jax import files, run
from lm_jax.config import Config
from lm_jax.data import dataset
from lm_jax.evaluation.diversity import diversity
from lm_jax.evaluation.fluency import ngram_set, seen_ngram_share
from lm_jax.evaluation.intervals import Estimate, as_json
from lm_jax.evaluation.openings import opening_distance, openings

FORMAT = 1  # of study.json
LIKELIHOOD = ("nats_per_token", "bits_per_byte", "standard_error", "num_draws")
PROMPT = "Once"

# Trainings: fields that differ from the repaired protocol, for each family that they
# change. AR does not depend on objective, head (tied in the paper, too) or start, so
# the published training of AR is `windows`.
WINDOWS = {"data.windows": "stream"}
OBJECTIVE = {"mdlm.objective": "token_mean", "mdlm.schedule": "cos_squared"}
HEAD = {"model.tied_head": False}
START = {"mdlm.bos_at_start": False}
TIMES = {"mdlm.times": "independent", "mdlm.time_scale": 1.0}
TRAININGS: dict[str, dict[str, dict[str, Any]]] = {
    "controlled": {"AR": {}, "MDLM": {}},
    "windows": {"AR": WINDOWS, "MDLM": WINDOWS},
    "objective": {"MDLM": OBJECTIVE},
    "head": {"MDLM": HEAD},
    "start": {"MDLM": START},
    "published": {"MDLM": WINDOWS | OBJECTIVE | HEAD | START | TIMES},
}


class Writing(NamedTuple):
    """Sampling settings: fields that differ from the config, and the prompt."""

    values: Mapping[str, Any] = {}
    prompt: str = ""


# The paper's AR sampler is temperature 0.8 with the prompt; `sampler` has no prompt.
WRITINGS = {
    "plain": Writing(),
    "prompt": Writing(prompt=PROMPT),
    "temperature": Writing({"temperature": 0.8}),
    "vicentino2026": Writing({"sampler": "vicentino2026"}),
    "vicentino2026_prompt": Writing({"sampler": "vicentino2026"}, PROMPT),
}

# Rows of the table: training and sampling settings of each family.
ROWS: dict[str, dict[str, tuple[str, str]]] = {
    "controlled": {"AR": ("controlled", "plain"), "MDLM": ("controlled", "plain")},
    "prompt": {"AR": ("controlled", "prompt"), "MDLM": ("controlled", "prompt")},
    "temperature": {
        "AR": ("controlled", "temperature"),
        "MDLM": ("controlled", "temperature"),
    },
    "sampler": {"MDLM": ("controlled", "vicentino2026")},
    "windows": {"AR": ("windows", "plain"), "MDLM": ("windows", "plain")},
    "objective": {"MDLM": ("objective", "plain")},
    "head": {"MDLM": ("head", "plain")},
    "start": {"MDLM": ("start", "plain")},
    "published": {
        "AR": ("windows", "vicentino2026"),
        "MDLM": ("published", "vicentino2026"),
    },
    "published, no prompt": {"AR": ("windows", "temperature")},
    "published, same prompt": {"MDLM": ("published", "vicentino2026_prompt")},
}


class Corpus(NamedTuple):
    """The training documents and their 4-grams, with which samples are compared."""

    documents: Sequence[str]
    ngrams_4: np.ndarray


class Trial(NamedTuple):
    """One training run: name of the training, label of the family, and seed."""

    training: str
    label: str
    seed: int

    def path(self, workdir: Path) -> Path:
        """Directory of the run; families of one training and seed share the parent."""
        return workdir / self.training / f"seed_{self.seed}" / self.label.lower()


def study(
    cfg: Config,
    workdir: str | Path,
    command: str = "",
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Runs all trials; returns the content of study.json.

    Returns:
      The results, or None if it stopped early or other processes are still working.
    """
    workdir = Path(workdir)
    todo = [
        Trial(training, label, cfg.seed + i)
        for i in range(cfg.num_seeds)
        for training, families in TRAININGS.items()
        for label in families
    ]
    data = dataset.load(sweep.replace_fields(cfg, {"data.windows": "document"}))
    corpus = Corpus(data.train_documents, ngram_set(data.train_documents, 4))

    def work(number: int) -> bool:
        return _finish(cfg, workdir, todo[number], corpus, should_stop)

    configs = [training_config(cfg, trial) for trial in todo]
    if not sweep.finish([trial.path(workdir) for trial in todo], work, configs):
        return None
    finished = [sweep.numbers(trial.path(workdir)) for trial in todo]
    whole = {
        "format": FORMAT,
        **made_by(command, cfg),
        "seeds": [cfg.seed + i for i in range(cfg.num_seeds)],
        "trainings": TRAININGS,
        "writings": {name: writing._asdict() for name, writing in WRITINGS.items()},
        "rows": ROWS,
        "corpus": {"name": data.name, "fingerprint": data.fingerprint},
        "human": {
            windows: measures(_human(cfg, windows), corpus)
            for windows in ("document", "stream")
        },
        "cells": [
            {**trial._asdict(), **numbers}
            for trial, numbers in zip(todo, finished, strict=True)
        ],
    }
    files.write_json(workdir / "study.json", whole)
    (workdir / "study.md").write_text(markdown(whole), encoding="utf-8")
    return whole


def training_config(cfg: Config, trial: Trial) -> Config:
    """The training configuration of a trial."""
    own = sweep.replace_fields(cfg, TRAININGS[trial.training][trial.label])
    own = dataclasses.replace(own, seed=trial.seed, num_seeds=1)
    return own_configs(own)[trial.label]


def measures(texts: list[str], corpus: Corpus) -> dict[str, dict[str, float | None]]:
    """Openings, variety and quality of texts, with intervals."""
    variety = diversity(texts, num_resamples=100)
    found: dict[str, Estimate] = {
        **openings(texts, corpus.documents),
        "opening_distance_5": opening_distance(texts, corpus.documents, 5),
        "unique_first_words": variety["unique_first_words"],
        "unique_openings": variety["unique_openings"],
        "self_bleu": variety["self_bleu"],
        "distinct_4": variety["distinct_4"],
        "words_per_document": variety["words_per_document"],
        "seen_4gram_share": seen_ngram_share(texts, corpus.ngrams_4, 4, 100),
    }
    return {name: as_json(estimate) for name, estimate in found.items()}


def _finish(
    cfg: Config,
    workdir: Path,
    trial: Trial,
    corpus: Corpus,
    should_stop: Callable[[], bool],
) -> bool:
    """Trains, scores and samples one trial; False if it was stopped."""
    family, path = FAMILIES[trial.label], trial.path(workdir)
    own, start = training_config(cfg, trial), time.perf_counter()
    if not run.train(family, own, path, should_stop=should_stop):
        return False
    scores = scored_once(family, own, path)
    writings = {}
    for name in _writings(trial):
        values, prompt = WRITINGS[name]
        sampler = dataclasses.replace(own.sample, **values)
        samples, record = drawn(
            family,
            path,
            f"writings/{name}",
            sampler,
            seed=own.seed,
            which="latest",
            prompt=prompt,
        )
        texts = [sample.text for sample in samples]
        writings[name] = {"seconds": record["seconds"], **measures(texts, corpus)}
    numbers = {name: scores[name] for name in LIKELIHOOD} | {
        "clock": files.read_json(path / "training.json"),
        "seconds": time.perf_counter() - start,
        "curve": sweep.learning_curves(path)["validation"],
        "writings": writings,
    }
    files.write_json(path / sweep.DONE, numbers | {"config": own.to_dict()})
    return True


def _writings(trial: Trial) -> list[str]:
    """Names of the sampling settings that some row needs of the trial."""
    wanted = (trial.label, trial.training)
    asked = [
        writing
        for families in ROWS.values()
        for label, (training, writing) in families.items()
        if (label, training) == wanted
    ]
    return list(dict.fromkeys(asked))


def _human(cfg: Config, windows: str) -> list[str]:
    """The first document of each held-out window, as many as there are samples."""
    data = dataset.load(sweep.replace_fields(cfg, {"data.windows": windows}))
    length = cfg.sample.length or cfg.model.length
    rows = data.valid[: cfg.sample.num_samples, :length]
    return [data.tokenizer.first_document(row)[0] for row in rows]
