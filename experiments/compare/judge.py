"""A judge: how likely stories are to a model that shares no text with the families.

python -m experiments.compare.judge --halve=stories.txt --out=halves

writes halves/families.txt and halves/judge.txt, which share no story. Train the
families on the first and name the second in --config.evaluate.judge_files; storyworld
tells the judge stories of its own. --config.evaluate.judge_steps=2000 turns it on.
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
from lm_jax import app, command_line, files, trained
from lm_jax.config import Config, require
from lm_jax.data import storyworld, text_files
from lm_jax.evaluation.intervals import Estimate, as_json, ratio_interval
from lm_jax.evaluation.likelihood import window_nats
from lm_jax.sampling.text import Sample
from lm_jax.types import EOS, PAD

END_OF_STORY = "\n<|endoftext|>\n"


def halves(stories: Iterable[str]) -> tuple[list[str], list[str]]:
    """The stories by a bit of their hash: the same story is always on one side."""
    sides: tuple[list[str], list[str]] = ([], [])
    for story in stories:
        text = " ".join(story.split())
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass")).digest()
        sides[digest[0] & 1].append(story)
    return sides


def texts(cfg: Config, training: Iterable[str]) -> list[str]:
    """What the judge trains on: stories that no family has read.

    Raises:
      ValueError: there are none, or one of them is in the training text.
    """
    if cfg.data.corpus == "storyworld":
        told = storyworld.generate(cfg.data.seed + 1_000_003, cfg.data.num_stories)
    else:
        named = cfg.evaluate.judge_files
        require(
            bool(named),
            f"judge_steps={cfg.evaluate.judge_steps} needs text that no family trains "
            "on: make halves with python -m experiments.compare.judge --halve, and "
            "pass --config.evaluate.judge_files=halves/judge.txt",
        )
        paths = text_files.paths(named, "--config.evaluate.judge_files")
        told = [story for path in paths for story in text_files.documents(path)]
    seen = {" ".join(story.split()) for story in training}
    fresh = [story for story in told if " ".join(story.split()) not in seen]
    require(
        len(fresh) == len(told) or cfg.data.corpus == "storyworld",
        f"{len(told) - len(fresh)} stories of judge_files are in the training text: "
        "a judge must not know them, so pass the other half",
    )
    return fresh


def judge_config(cfg: Config, workdir: Path, training: Sequence[str]) -> Config:
    """The families' own backbone and optimizer, on `texts`.

    Raises:
      ValueError: see `texts`.
    """
    fresh = texts(cfg, training)
    path = workdir / "judge_stories.txt"
    with files.whole_file(path) as part:
        part.write_text(END_OF_STORY.join(fresh), encoding="utf-8")
    steps = cfg.evaluate.judge_steps
    return dataclasses.replace(
        cfg,
        num_seeds=1,
        data=dataclasses.replace(
            cfg.data, corpus="text", train_files=str(path), valid_files=""
        ),
        train=dataclasses.replace(cfg.train, num_steps=steps, max_seconds=0.0),
    )


def judged(
    path: Path, cfg: Config, stories: Sequence[str], is_finished: Sequence[bool]
) -> Estimate:
    """-log p of the stories under the judge, in bits per byte, with its interval.

    A story is scored from its beginning, with its end where it has one; what does not
    fit the judge's window is left out. Low for likely text, and lowest for text that
    says one likely thing again and again: read it beside variety.
    """
    lm, run, params, _ = trained.open_model(ar_jax.language_model, path)
    encoded = run.tokenizer.encode(list(stories))
    rows = np.full((len(stories), run.cfg.model.length), PAD, np.uint16)
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
    num_bytes = run.tokenizer.num_bytes[rows].sum(axis=1)
    return ratio_interval(
        nats / np.log(2.0), num_bytes, cfg.evaluate.num_resamples, cfg.seed
    )


def add_judgement(
    cfg: Config,
    workdir: Path,
    held: HumanReference,
    results: dict[str, Any],
    samples: dict[str, list[Sample]],
) -> None:
    """Trains the judge, once; adds judge_bits_per_byte to fluency.

    Each judge has a directory of its own in workdir/judge: another number of steps, or
    other text, is another judge.
    """
    wanted = judge_config(cfg, workdir, held.training)
    text = files.sha256(Path(wanted.data.train_files))
    path = workdir / "judge" / f"{wanted.train.num_steps}_{text[:8]}"
    app.train(ar_jax.language_model, wanted, path)
    count = min(part["num_stories"] for part in results["families"].values())
    columns = {
        name: ([s.text for s in drawn[:count]], [s.finished for s in drawn[:count]])
        for name, drawn in samples.items()
    }
    for name, (stories, finished) in columns.items():
        found = judged(path, cfg, stories, finished)
        fluency = results["families"][name]["fluency"]
        fluency["judge_bits_per_byte"] = as_json(found)
    if results["human"]:
        found = judged(path, cfg, held.human[:count], held.is_finished[:count])
        results["human"]["fluency"]["judge_bits_per_byte"] = as_json(found)


def main() -> None:
    paths = text_files.paths(flags.FLAGS.halve, "--halve")
    sides = halves(story for path in paths for story in text_files.documents(path))
    directory = command_line.path("out")
    outs = [directory / f"{name}.txt" for name in ("families", "judge")]
    for out in outs:
        require(not out.exists(), f"{out} exists already: name another --out")
    require(
        all(sides),
        f"the {len(sides[0]) + len(sides[1])} stories of --halve={flags.FLAGS.halve} "
        "fall into one half: give a file with more stories",
    )
    for out, stories in zip(outs, sides, strict=True):
        with files.whole_file(out) as part:
            part.write_text(END_OF_STORY.join(stories), encoding="utf-8")
        print(f"{len(stories):,} stories: {out}")


if __name__ == "__main__":
    flags.DEFINE_string("halve", None, "Text to divide, story by story.")
    flags.DEFINE_string("out", "halves", "Directory of families.txt and judge.txt.")
    command_line.run(main, required={"halve": "FILE"})
