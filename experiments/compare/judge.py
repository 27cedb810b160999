"""The judge: an AR model trained on other text, which scores the samples.

python -m experiments.compare.judge --halve=stories.txt --out=halves

writes halves/families.txt and halves/judge.txt, which share no document. Train the
families on the first file and pass the second as --config.evaluate.judge_files. With
storyworld, the judge trains on stories that are generated for it alone.
--config.evaluate.judge_steps=2000 turns the judge on.
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
from lm_jax import command_line, files, run
from lm_jax.config import Config, require
from lm_jax.data import storyworld, text_files
from lm_jax.evaluation.intervals import Estimate, as_json, ratio_interval
from lm_jax.evaluation.likelihood import window_nats
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


def judged(
    path: Path, cfg: Config, texts: Sequence[str], is_finished: Sequence[bool]
) -> Estimate:
    """-log p of texts under the judge, in bits per byte, with its interval.

    A text is scored from its beginning, including EOS if it is finished; tokens beyond
    the judge's window are left out. Likely text scores low, and text that repeats one
    likely phrase scores lowest: read this metric beside variety.
    """
    _, lm, judge, params, _ = run.load(path, ar_jax.FAMILY)
    encoded = judge.tokenizer.encode(list(texts))
    rows = np.full((len(texts), judge.cfg.model.length), PAD, np.uint16)
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
    num_bytes = judge.tokenizer.num_bytes[rows].sum(axis=1)
    return ratio_interval(
        nats / np.log(2.0), num_bytes, cfg.evaluate.num_resamples, cfg.seed
    )


def add_judgement(
    cfg: Config,
    workdir: Path,
    human_reference: HumanReference,
    results: dict[str, Any],
    samples: dict[str, list[Sample]],
) -> None:
    """Trains the judge, once, and adds judge_bits_per_byte to the fluency metrics.

    workdir/judge has one directory for each number of steps and each training text.
    """
    wanted = judge_config(cfg, workdir, human_reference.training)
    text = files.sha256(Path(wanted.data.train_files[0]))
    path = workdir / "judge" / f"{wanted.train.num_steps}_{text[:8]}"
    run.train(ar_jax.FAMILY, wanted, path)
    count = min(part["num_stories"] for part in results["families"].values())
    columns = {
        name: ([s.text for s in drawn[:count]], [s.finished for s in drawn[:count]])
        for name, drawn in samples.items()
    }
    for name, (drawn, finished) in columns.items():
        found = judged(path, cfg, drawn, finished)
        fluency = results["families"][name]["fluency"]
        fluency["judge_bits_per_byte"] = as_json(found)
    if results["human"]:
        found = judged(
            path,
            cfg,
            human_reference.human[:count],
            human_reference.is_finished[:count],
        )
        results["human"]["fluency"]["judge_bits_per_byte"] = as_json(found)


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
