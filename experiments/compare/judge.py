"""The judge: an AR model trained on other text, which scores the samples.

--config.evaluate.judge=RUN takes any run whose likelihood is exact, also one that
python -m lm_jax.convert has imported. Or a comparison trains its own:

python -m experiments.compare.judge --halve=stories.txt --out=halves

writes halves/families.txt and halves/judge.txt, which share no document. Train the
families on the first file and pass the second as --config.evaluate.judge_files. With
storyworld, the judge trains on stories that are generated for it alone.
--config.evaluate.judge_steps=2000 turns this judge on.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

import ar_jax
from experiments.compare.held_out import HumanReference
from lm_jax import checkpoint, command_line, files, run
from lm_jax.config import Config, require
from lm_jax.data import storyworld, text_files
from lm_jax.evaluation.intervals import (
    Estimate,
    as_json,
    mean_interval,
    ratio_interval,
)
from lm_jax.evaluation.likelihood import window_nats
from lm_jax.run import Trained
from lm_jax.sampling.samples_file import Sample
from lm_jax.types import EOS, PAD

END_OF_DOCUMENT = "\n<|endoftext|>\n"


def halves(documents: Iterable[str]) -> tuple[list[str], list[str]]:
    """Documents in two halves by one bit of their hash; equal texts share a half."""
    sides: tuple[list[str], list[str]] = ([], [])
    for document in documents:
        text = " ".join(document.split())
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass")).digest()
        sides[digest[0] & 1].append(document)
    return sides


def texts(cfg: Config, training: Iterable[str]) -> list[str]:
    """The training text of the judge: documents that no family was trained on.

    Raises:
      ValueError: if there are none, or if one of them is in the training text.
    """
    if cfg.data.corpus == "storyworld":
        documents = storyworld.generate(cfg.data.seed + 1_000_003, cfg.data.num_stories)
    else:
        named = cfg.evaluate.judge_files
        require(
            bool(named),
            f"judge_steps={cfg.evaluate.judge_steps} needs text that no family trains "
            "on: make halves with python -m experiments.compare.judge --halve, and "
            "pass --config.evaluate.judge_files=halves/judge.txt",
        )
        paths = text_files.paths(named, "--config.evaluate.judge_files")
        documents = [text for path in paths for text in text_files.documents(path)]
    seen = {" ".join(text.split()) for text in training}
    fresh = [text for text in documents if " ".join(text.split()) not in seen]
    require(
        len(fresh) == len(documents) or cfg.data.corpus == "storyworld",
        f"{len(documents) - len(fresh)} documents of judge_files are in the training "
        "text: the judge must not be trained on them, so pass the other half",
    )
    return fresh


def judge_config(cfg: Config, workdir: Path, training: Sequence[str]) -> Config:
    """The configuration of the judge: the families' backbone and optimizer on `texts`.

    Raises:
      ValueError: as `texts` does.
    """
    fresh = texts(cfg, training)
    path = workdir / "judge_stories.txt"
    with files.whole_file(path) as part:
        part.write_text(END_OF_DOCUMENT.join(fresh), encoding="utf-8")
    steps = cfg.evaluate.judge_steps
    return dataclasses.replace(
        cfg,
        num_seeds=1,
        data=dataclasses.replace(
            cfg.data, corpus="text", train_files=(str(path),), valid_files=()
        ),
        train=dataclasses.replace(cfg.train, num_steps=steps, max_seconds=0.0),
    )


def outside(directory: str) -> Trained:
    """The judge of evaluate.judge.

    Raises:
      ValueError: there is no such run, or its likelihood is a bound.
    """
    judge = run.load(Path(directory).expanduser())
    require(
        not judge.family.is_bound,
        f"EvaluateConfig.judge={directory!r} is a run of {judge.family.name}, whose "
        "likelihood is a bound: name one with an exact likelihood, as of ar",
    )
    return judge


def judged(
    judge: Trained, cfg: Config, texts: Sequence[str], is_finished: Sequence[bool]
) -> dict[str, Estimate]:
    """What the judge says of texts, with intervals over texts.

    judge_bits_per_byte and judge_perplexity (per token of the judge, "generative
    perplexity") are -log p of texts. A text is scored from its beginning, including EOS
    if it is finished; tokens beyond the judge's window are left out. Likely text scores
    low, and text that repeats one likely phrase scores lowest. So judge_token_entropy
    stands beside them: the entropy of the token counts of a text in nats, which
    repetition lowers.
    """
    _, lm, about, params, _ = judge
    encoded = about.tokenizer.encode(list(texts))
    rows = np.full((len(texts), about.cfg.model.length), PAD, np.uint16)
    for row, tokens, finished in zip(rows, encoded, is_finished, strict=True):
        tokens = [*tokens, EOS][: len(tokens) + bool(finished)][: len(row)]
        row[: len(tokens)] = tokens
    nats, _ = window_nats(
        lm,
        params,
        rows,
        key=jax.random.key(cfg.seed),
        num_draws=2,
        batch_size=cfg.evaluate.batch_size,
    )
    options = (cfg.evaluate.num_resamples, cfg.seed)
    num_bytes = about.tokenizer.num_bytes[rows].sum(axis=1)
    per_token = ratio_interval(nats, np.sum(rows != PAD, axis=1), *options)
    entropies = np.array([_entropy(row[row != PAD]) for row in rows])
    return {
        "judge_bits_per_byte": ratio_interval(nats / np.log(2.0), num_bytes, *options),
        "judge_perplexity": Estimate(*map(float, np.exp(per_token))),
        "judge_token_entropy": mean_interval(entropies, *options),
    }


def _entropy(tokens: np.ndarray) -> float:
    share = np.unique(tokens, return_counts=True)[1] / max(len(tokens), 1)
    return float(-np.sum(share * np.log(share)))


def add_judgement(
    cfg: Config,
    workdir: Path,
    human_reference: HumanReference,
    results: dict[str, Any],
    samples: dict[str, list[Sample]],
) -> None:
    """Adds what the judge says to the fluency metrics, and which judge it was.

    A judge of the comparison's own is trained, once: workdir/judge has one directory
    for each number of steps and each training text.
    """
    if cfg.evaluate.judge:
        judge = outside(cfg.evaluate.judge)
    else:
        wanted = judge_config(cfg, workdir, human_reference.training)
        text = files.sha256(Path(wanted.data.train_files[0]))
        path = workdir / "judge" / f"{wanted.train.num_steps}_{text[:8]}"
        run.train(ar_jax.FAMILY, wanted, path)
        judge = run.load(path, ar_jax.FAMILY)
    results["judge"] = {
        "run": str(judge.run.path),
        "checkpoint": checkpoint.identity(judge.run.checkpoints, judge.step),
    }
    count = min(part["num_stories"] for part in results["families"].values())
    columns = {
        name: ([s.text for s in drawn[:count]], [s.finished for s in drawn[:count]])
        for name, drawn in samples.items()
    }
    parts = [(columns[name], part) for name, part in results["families"].items()]
    if results["human"]:
        human = human_reference.human[:count], human_reference.is_finished[:count]
        parts.append((human, results["human"]))
    for (texts, is_finished), part in parts:
        found = judged(judge, cfg, texts, is_finished)
        part["fluency"] |= {name: as_json(value) for name, value in found.items()}


def main() -> None:
    """Runs the command."""
    paths = text_files.paths(flags.FLAGS.halve, "--halve")
    sides = halves(text for path in paths for text in text_files.documents(path))
    directory = command_line.path("out")
    outs = [directory / f"{name}.txt" for name in ("families", "judge")]
    for out in outs:
        require(not out.exists(), f"{out} exists already: name another --out")
    require(
        all(sides),
        f"the {len(sides[0]) + len(sides[1])} documents of --halve={flags.FLAGS.halve} "
        "fall into one half: give a file with more documents",
    )
    for out, documents in zip(outs, sides, strict=True):
        with files.whole_file(out) as part:
            part.write_text(END_OF_DOCUMENT.join(documents), encoding="utf-8")
        print(f"{len(documents):,} documents: {out}")


if __name__ == "__main__":
    flags.DEFINE_string("halve", None, "Text file to divide by documents.")
    flags.DEFINE_string("out", "halves", "Directory for families.txt and judge.txt.")
    command_line.run(main, required={"halve": "FILE"})
