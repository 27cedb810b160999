"""The applications: train, sample and evaluate, as functions of a family.

A family is a function Config -> LanguageModel. This is the only file that reads flags,
and it defines them only when a main asks for them: importing it defines none.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from lm_jax import distributed, files, run_directory, signals
from lm_jax.config import Config, EvaluateConfig, SampleConfig
from lm_jax.evaluation.scores import without_lists
from lm_jax.sampling import writing
from lm_jax.sampling.presets import settle
from lm_jax.sampling.text import Sample
from lm_jax.sampling.writing import Effort
from lm_jax.trained import Family, evaluate, open_model
from lm_jax.training import allocator
from lm_jax.training.run import train

# What absl and ml_collections raise for a flag that is unknown or ill-typed.
BAD_FLAGS = (flags.Error, KeyError, TypeError, ValueError, AttributeError, OSError)

# What the seed's key is folded with; training/loop.py, training/run.py and trained.py
# have the others.
SAMPLING = 4


def sample(
    family: Family,
    workdir: str | Path,
    cfg: SampleConfig | None = None,
    *,
    seed: int = 0,
    prompt: str = "",
    infill: str = "",
    out: str | Path | None = None,
    overwrite: bool = False,
    trace: bool = False,
) -> tuple[list[Sample], Effort]:
    """Writes stories with the model of a run.

    Args:
      family, workdir: of the run.
      cfg: default: the run's own.
      seed: with a story's number it decides the story, whatever the batch size.
      prompt: how every story begins; default: the sampler's own, where it has one.
      infill: fixed text with gaps, "Once [12] and then [20]. The end."; not for AR.
      out: a file that grows with the samples; one that was left half-written goes on.
      overwrite: replace the file where it holds other samples.
      trace: keep the order in which tokens were written.

    Returns:
      The samples, those that the file held already included, and what the rest took.

    Raises:
      ValueError: there is no such sampler or run, or the text given leaves no room.
    """
    model = open_model(family, workdir)
    lm, run = model.lm, model.run
    return writing.write(
        model,
        jax.random.fold_in(jax.random.key(seed), SAMPLING),
        settle(cfg or run.cfg.sample, lm.samplers, lm.presets),
        origin={"seed": seed, "prompt": prompt, "infill": infill},
        out=out,
        overwrite=overwrite,
        trace=trace,
        clock=time.perf_counter,
    )


# Mains. Each defines its flags, and ends bad input with one sentence and status 2.


def run_training(family: Family) -> None:
    """The main of <family>_jax.train."""
    define_config()
    flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)

    def main() -> None:
        cfg, workdir = read_config(), flags.FLAGS.workdir
        cfg = cfg.of_family(family(Config()).name)
        allocator.keep_freed_memory(cfg)
        with signals.finish_step() as should_stop:
            done = train(family, cfg, workdir, should_stop)
        print("finished" if done else "stopped and saved; run again to go on")

    run(main, may_be_one_of_many=True)


def run_sampling(family: Family, *, can_infill: bool) -> None:
    """The main of <family>_jax.sample."""
    flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
    flags.DEFINE_string(
        "out", "", "Samples as JSON lines; default <workdir>/samples.jsonl."
    )
    flags.DEFINE_bool("overwrite", False, "Replace a file that holds other samples.")
    flags.DEFINE_string("prompt", "", "How every story begins.")
    flags.DEFINE_integer("seed", 0, "Of the samples.")
    flags.DEFINE_bool("trace", False, "Keep the order in which tokens were written.")
    if can_infill:
        flags.DEFINE_string("infill", "", 'Text with gaps: "Tom had a [8]. The end."')
    _define_fields(SampleConfig)

    def main() -> None:
        values, workdir = flags.FLAGS, Path(flags.FLAGS.workdir)
        cfg = _override(vars(run_directory.read_config(workdir).sample))
        out = values.out or workdir / "samples.jsonl"
        samples, effort = sample(
            family,
            workdir,
            SampleConfig(**cfg),
            seed=values.seed,
            prompt=values.prompt,
            infill=values.infill if can_infill else "",
            out=out,
            overwrite=values.overwrite,
            trace=values.trace,
        )
        for story in samples[:4]:
            print(story.text, end="\n\n")
        print(f"{effort.describe()}; {len(samples)} samples in {out}")

    run(main)


def run_evaluation(family: Family) -> None:
    """The main of <family>_jax.evaluate."""
    flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
    flags.DEFINE_string("text_file", "", "Score this text, not the held-out windows.")
    flags.DEFINE_string("out", "", "Where the scores go as JSON, beside the terminal.")
    _define_fields(EvaluateConfig)

    def main() -> None:
        workdir = Path(flags.FLAGS.workdir)
        cfg = _override(vars(run_directory.read_config(workdir).evaluate))
        text_file = flags.FLAGS.text_file
        found = evaluate(family, workdir, EvaluateConfig(**cfg), text_file=text_file)
        print(json.dumps(without_lists(found), indent=2))
        if flags.FLAGS.out:
            files.write_json(Path(flags.FLAGS.out), found)

    run(main)


def run(main: Callable[[], None], *, may_be_one_of_many: bool = False) -> None:
    """Parses flags and calls main. Bad input is one sentence and exit status 2."""
    flags.DEFINE_bool("traceback", False, "Show where an error comes from.")
    if may_be_one_of_many:
        flags.DEFINE_bool("distributed", False, "Ask the cluster for other processes.")
        flags.DEFINE_string("coordinator", "", "host:port of process 0.")
        flags.DEFINE_integer("num_processes", 1, "How many there are.")
        flags.DEFINE_integer("process_id", 0, "Which one this is, from 0.")

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
        except BAD_FLAGS as error:
            _exit(error)
        if len(rest) > 1:
            _exit(f"unknown argument {rest[1]!r}: flags are written --name=value")
        return rest

    def guarded(_: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # orbax tells of every save
        # Of a save that failed, one sentence is enough.
        getLogger("asyncio").setLevel("CRITICAL")
        signals.leave_on_signal()
        try:
            if may_be_one_of_many:
                _join_processes()
            main()
        except (ValueError, FloatingPointError, OSError) as error:
            if flags.FLAGS.traceback:
                raise
            _exit(error)

    app.run(guarded, flags_parser=parse)


def define_config(default: Path | None = None) -> None:
    """--config=FILE and --config.field=value."""
    default_file = None if default is None else str(default)
    try:  # with a default, overrides are parsed here
        config_flags.DEFINE_config_file("config", default_file, "With get_config().")
    except BAD_FLAGS as error:
        _exit(error)
    if default is None:
        flags.mark_flag_as_required("config")


def read_config() -> Config:
    """The validated configuration of the flags.

    Raises:
      ValueError: names the field that is unknown or ill-typed.
      OSError: there is no such file.
    """
    values = flags.FLAGS.config
    # A file that could not be loaded says so when its fields are read.
    return Config.from_dict(
        dict(values.items()) if hasattr(values, "items") else values
    )


def go_on_alone() -> None:
    """Ends every process but the first, which starts again without the others: what
    follows training is not shared out, and a finished training is not repeated."""
    if jax.process_count() == 1:
        return
    is_leader = distributed.is_leader()
    jax.distributed.shutdown()
    if not is_leader:
        sys.exit(0)
    alone = [*sys.orig_argv, "--coordinator=", "--nodistributed"]
    os.execv(sys.executable, alone)  # and so gives back all that devices hold


def _join_processes() -> None:
    values = flags.FLAGS
    if values.coordinator:
        distributed.initialize(
            values.coordinator, values.num_processes, values.process_id
        )
    elif values.distributed:
        distributed.initialize("", 0, 0)


def _define_fields(section: type) -> None:
    """A flag for each field; where it is not given, the run's own value holds."""
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float}
    for name, kind in section.__annotations__.items():
        about = f"{section.__name__}.{name}; default: the run's."
        define.get(kind, flags.DEFINE_string)(name, None, about)


def _override(values: dict[str, Any]) -> dict[str, Any]:
    given = {name: flags.FLAGS[name].value for name in values}
    return values | {name: value for name, value in given.items() if value is not None}


def _exit(error: object) -> None:
    text = " ".join(str(error).split())
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)
