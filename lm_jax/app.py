"""The three mains of every family: train, sample and evaluate, with their flags.

Only mains read flags, and importing this file defines none.
"""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from absl import flags

from lm_jax import command_line, distributed, files, run, signals, usage
from lm_jax.command_line import define_config, output, path, read_config
from lm_jax.config import EvaluateConfig, SampleConfig, require
from lm_jax.data import text_files
from lm_jax.evaluation import infills
from lm_jax.evaluation.scores import without_lists
from lm_jax.language_model import Family
from lm_jax.training import malloc

NUM_SHOWN = 4  # samples on the terminal


def run_training(family: Family) -> None:
    """The main of <family>_jax.train."""
    define_config()
    flags.DEFINE_string("workdir", None, "Directory of the run.")
    flags.DEFINE_bool("dry_run", False, "Check everything and print the plan alone.")

    def main() -> None:
        cfg, workdir = read_config(), path("workdir")
        cfg = cfg.of_family(family.name)
        if flags.FLAGS.dry_run:
            print(run.plan(family, cfg, workdir))
            print("nothing was trained: leave out --dry_run to train")
            return
        malloc.disable_malloc_trim(cfg)
        with signals.finish_step() as should_stop:
            done = run.train(family, cfg, workdir, should_stop=should_stop)
        print("finished" if done else "stopped and saved; run again to go on")

    required = {"config": "FILE", "workdir": "DIR"}
    command_line.run(main, required=required, may_be_one_of_many=True)


def run_sampling(family: Family) -> None:
    """The main of <family>_jax.sample."""
    flags.DEFINE_string("workdir", None, "Directory of the run.")
    flags.DEFINE_string(
        "out", "", "Samples as JSON lines; default: samples.jsonl in --workdir."
    )
    flags.DEFINE_bool("overwrite", False, "Replace a file that holds other samples.")
    flags.DEFINE_string(
        "prompt",
        "",
        "Beginning of every sample; default: the one of --sampler, if any.",
    )
    flags.DEFINE_string(
        "infill", "", 'Text with gaps, "Tom had a [8]. The end."; MDLM fills them.'
    )
    flags.DEFINE_string(
        "prompts_file",
        "",
        "Text file with a prompt on each line; --num_samples is then the number of "
        "samples of each, 1 by default. Default: none.",
    )
    flags.DEFINE_string(
        "infills_file",
        "",
        "The same with an infill on each line, for families that fill gaps. Default: "
        "none.",
    )
    flags.DEFINE_integer("seed", 0, "Seed of the samples.")
    _define_checkpoint()
    flags.DEFINE_bool("trace", False, "Keep the order in which tokens were unmasked.")
    _define_fields(SampleConfig)

    def main() -> None:
        values, workdir = flags.FLAGS, path("workdir")
        given = _given_lines()
        cfg: dict[str, Any] = vars(run.read_config(workdir).sample)
        if given:
            cfg = cfg | {"num_samples": 1}
        cfg = cfg | _given(SampleConfig)
        out = path("out") if values.out else workdir / "samples.jsonl"
        model = run.load(workdir, family, values.checkpoint)
        samples, stats = run.sample(
            model,
            SampleConfig(**cfg),
            seed=values.seed,
            prompt=values.prompt,
            infill=values.infill,
            out=out,
            **given,
            overwrite=values.overwrite,
            trace=values.trace,
        )
        for shown in samples[:NUM_SHOWN]:
            print(shown.text, end="\n\n")
        rest = f", {NUM_SHOWN} of them above" if len(samples) > NUM_SHOWN else ""
        print(f"{stats.describe()}; {len(samples)} samples in {out}{rest}")

    command_line.run(main, required={"workdir": "DIR"})


def run_evaluation(family: Family) -> None:
    """The main of <family>_jax.evaluate."""
    flags.DEFINE_string("workdir", None, "Directory of the run.")
    flags.DEFINE_string(
        "text_file", "", "Text to score; default: the held-out windows of the run."
    )
    flags.DEFINE_string(
        "windows",
        "",
        "Windows of --text_file: document (every document has an end) or stream (all "
        "documents are one text). Default: as the run was trained.",
    )
    flags.DEFINE_integer(
        "stride",
        0,
        "Tokens by which the windows of --text_file advance. Each token is scored "
        "once, and sees at least (length of a window - stride) tokens before it; 0: "
        "windows do not overlap.",
    )
    flags.DEFINE_bool(
        "per_document",
        False,
        "Write a JSON line with the score of each document of --text_file, or of each "
        "held-out window, to --out.",
    )
    flags.DEFINE_string(
        "infill_scores",
        "",
        "File of gaps to score, a JSON line each, as in "
        '{"before": "Tom had a", "fills": ["red ball", "dog"], "after": "in a bag."}. '
        "Default: none.",
    )
    flags.DEFINE_string("out", "", "JSON file of the scores; default: none.")
    _define_checkpoint()
    _define_fields(EvaluateConfig, max_windows="the run's own, or 0 with --text_file")
    _define_fields(SampleConfig, *NO_SETTINGS, sampler="the model's own likelihood")

    def main() -> None:
        values, workdir = flags.FLAGS, path("workdir")
        if values.infill_scores:
            _score_infills(family, workdir)
            return
        if values.per_document:
            require(
                bool(values.out),
                "--per_document writes a line for each document: pass "
                "--out=scores.jsonl",
            )
            out = _lines_output("documents", {"index", "nats"})
        else:
            out = output("out")
        stored = run.read_config(workdir).evaluate
        defaults = run.evaluate_config(stored, values.text_file, values.stride)
        found = run.evaluate(
            run.load(workdir, family, values.checkpoint),
            EvaluateConfig(**vars(defaults) | _given(EvaluateConfig)),
            text_file=values.text_file,
            windows=values.windows,
            stride=values.stride,
            per_document=values.per_document,
            sampler=_given_sampler(run.read_config(workdir).sample),
        )
        print(json.dumps(without_lists(found), indent=2))
        if out is None:
            return
        if values.per_document:
            _write_lines(out, found["documents"])
        else:
            files.write_json(out, found)

    command_line.run(main, required={"workdir": "DIR"})


def _score_infills(family: Family, workdir: Path) -> None:
    """Prints, or writes to --out, a JSON line for each gap of --infill_scores."""
    values = flags.FLAGS
    for name in ("text_file", "windows", "stride", "per_document"):
        require(
            not values[name].value,
            f"--infill_scores scores the gaps of its file: leave out --{name}",
        )
    out = _lines_output("gaps", {"best", "fills"}) if values.out else None
    (file,) = text_files.paths([str(path("infill_scores"))], "--infill_scores")
    gaps = []
    for number, line in enumerate(text_files.lines(file), start=1):
        try:
            gaps.append(infills.parse(json.loads(line)))
        except ValueError as error:
            raise ValueError(f"line {number} of {file}: {error}") from None
    stored = run.read_config(workdir)
    found = run.score_infills(
        run.load(workdir, family, values.checkpoint),
        gaps,
        EvaluateConfig(**vars(stored.evaluate) | _given(EvaluateConfig)),
        _given_sampler(stored.sample),
    )
    if out is not None:
        _write_lines(out, found)
        return
    for line in found:
        print(json.dumps(line))


def _given_sampler(stored: SampleConfig) -> SampleConfig | None:
    """The sampler whose likelihood is asked for; None without --sampler."""
    given = _given(SampleConfig)
    names = [name for name in given if name not in NO_SETTINGS]
    if "sampler" in names:
        return SampleConfig(**vars(stored) | {name: given[name] for name in names})
    if names:
        raise ValueError(
            f"--{names[0]} is a setting of a sampler, and none is named: pass "
            "--sampler as well"
        )
    return None


def _lines_output(what: str, fields: set[str]) -> Path:
    """Path of --out, a file with JSON lines; one that exists must have these fields."""
    out = path("out")
    files.require_writable(out)
    if files.exists(out):
        try:
            lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
            is_ours = all(fields <= line.keys() for line in lines)
        except (ValueError, AttributeError):
            is_ours = False
        require(
            is_ours,
            f"{out} holds something else than scores of {what}: name another --out",
        )
    return out


def _write_lines(out: Path, lines: Iterable[dict[str, Any]]) -> None:
    with files.whole_file(out) as part, part.open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def _given_lines() -> dict[str, list[str]]:
    """{"prompts": lines} or {"infills": lines} where their file is given, else {}."""
    names = ("prompts_file", "infills_file", "prompt", "infill")
    used = [name for name in names if flags.FLAGS[name].value]
    if not used or not used[0].endswith("_file"):
        return {}
    require(
        len(used) == 1,
        f"{' and '.join(f'--{name}' for name in used)} exclude each other: pass one",
    )
    (file,) = text_files.paths([str(path(used[0]))], f"--{used[0]}")
    return {used[0].removesuffix("_file"): text_files.lines(file)}


def go_on_alone() -> None:
    """Ends every process but the first, which starts again without the others: what
    follows training is not shared out, and a finished training is not repeated."""
    if jax.process_count() == 1:
        return
    is_process_zero = distributed.is_process_zero()
    jax.distributed.shutdown()
    if not is_process_zero:
        sys.exit(0)
    alone = [*sys.orig_argv, "--coordinator=", "--nodistributed"]
    os.execv(sys.executable, alone)  # and so gives back all that devices hold


def _define_checkpoint() -> None:
    flags.DEFINE_string(
        "checkpoint",
        "latest",
        "Checkpoint to read: latest, best (lowest validation loss) or its step.",
    )


# Fields of a run's sections that only a comparison reads.
NO_SETTINGS = ("num_samples", "batch_size", "length")  # of a sampler's likelihood
OF_COMPARISONS = (
    "judge",
    "judge_steps",
    "judge_files",
    "checkpoint",
    "samplers",
    "sampler_windows",
)


def _define_fields(section: type, *left_out: str, **defaults: str) -> None:
    """A flag for each field; where it is not given, the run's own value holds."""
    define = {
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        bool: flags.DEFINE_bool,
    }
    meanings = usage.meanings(section)
    for name, kind in section.__annotations__.items():
        if name in (*OF_COMPARISONS, *left_out):
            continue
        text = meanings.get(name, f"{section.__name__}.{name}")
        default = defaults.get(name, "the run's own")
        about = f"{text[0].upper()}{text[1:].rstrip('.')}. Default: {default}."
        define.get(kind, flags.DEFINE_string)(name, None, about)


def _given(section: type) -> dict[str, Any]:
    """The fields that are given as flags."""
    names = [name for name in section.__annotations__ if name in flags.FLAGS]
    values = {name: flags.FLAGS[name].value for name in names}
    return {name: value for name, value in values.items() if value is not None}
