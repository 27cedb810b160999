"""The applications: train, sample and evaluate, as functions of a family.

A family is a function Config -> LanguageModel. This is the only file that reads flags,
and it defines them only when a main asks for them: importing it defines none.
"""

import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from lm_jax import distributed, run_directory, signals
from lm_jax.config import Config, EvaluateConfig, SampleConfig
from lm_jax.data import dataset
from lm_jax.data.batches import train_batches, window_numbers
from lm_jax.evaluation.likelihood import row_log_likelihood, score
from lm_jax.evaluation.scores import without_lists
from lm_jax.language_model import LanguageModel
from lm_jax.run_directory import Run
from lm_jax.sampling import writing
from lm_jax.sampling.presets import settle
from lm_jax.sampling.text import Sample
from lm_jax.sampling.writing import Effort
from lm_jax.trained import Family, evaluate, open_model
from lm_jax.training import allocator, budget, checkpoint, faults, lock, loop, sharding
from lm_jax.types import Params

# What absl and ml_collections raise for a flag that is unknown or ill-typed.
BAD_FLAGS = (flags.Error, KeyError, TypeError, ValueError, AttributeError, OSError)

# What the seed's key is folded with; training has its own in lm_jax/training/loop.py,
# and evaluation in lm_jax/trained.py.
VALIDATION, SAMPLING = 2, 4


def train(
    family: Family,
    cfg: Config,
    workdir: str | Path,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains a model in `workdir`, from where an earlier call stopped.

    Every process of a run calls this, with the same arguments, and sees the same files.

    Returns:
      Whether the training is finished; False where should_stop asked for an early end.

    Raises:
      ValueError: the directory belongs to another run, another process writes to it,
        or the data do not fit.
      NonFiniteError: the loss is not finite; what it takes to see that again lies in
        workdir/fault_<step>.
      OSError: the directory takes no files any more.
    """
    workdir, lm = Path(workdir), family(cfg)
    settle(cfg.sample, lm.samplers, lm.presets)  # an unknown sampler is named now
    num_steps = budget.num_steps(cfg.train, cfg.model.length, lm.flops_per_token)
    if distributed.as_leader(loop.is_finished(workdir, num_steps)):
        run_directory.require_same(workdir, lm.name, cfg)
        return True
    mesh = sharding.make_mesh(
        cfg.train.batch_size // cfg.train.accumulation, fsdp=cfg.train.fsdp_devices
    )
    batch_size, place = cfg.train.batch_size, (jax.process_index(), jax.process_count())
    checkpoints = workdir / loop.CHECKPOINTS
    with contextlib.ExitStack() as stack:
        data = distributed.leader_first(lambda: dataset.load(cfg))
        batches = train_batches(data.train, batch_size, cfg.seed, *place)
        latest = functools.partial(checkpoint.latest_step, checkpoints)
        stack.enter_context(faults.explained(workdir, latest))
        if distributed.is_leader():
            stack.enter_context(lock.only_writer(workdir))
        run = distributed.leader_first(
            lambda: run_directory.create(workdir, lm.name, cfg, data)
        )
        validate = _make_validation(lm, cfg, run)
        try:
            loop.train(
                lm,
                cfg,
                batches,
                workdir,
                evaluate=validate,
                mesh=mesh,
                should_stop=should_stop,
            )
        except faults.NonFiniteError as error:
            if distributed.is_leader():
                numbers = window_numbers(len(data.train), batch_size, cfg.seed)
                rows = numbers[error.step - 1]
                path = workdir / f"fault_{error.step}"
                origin = {"seed": cfg.seed, "checkpoint": latest()}
                faults.dump(path, error, rows, data.train[rows], **origin)
            raise
    distributed.leader_first(lambda: None)
    return distributed.as_leader(loop.is_finished(workdir, num_steps))


def _make_validation(
    lm: LanguageModel, cfg: Config, run: Run
) -> Callable[[Params], dict[str, float]]:
    """The learning curve's score: always the same windows and the same masks."""
    held_out = run.valid[: cfg.train.eval_windows]
    log_likelihood = row_log_likelihood(lm)

    def validate(params: Params) -> dict[str, float]:
        found = score(
            lm,
            params,
            held_out,
            dataset.num_bytes(run.tokenizer, held_out),
            key=jax.random.fold_in(jax.random.key(cfg.seed), VALIDATION),
            num_draws=cfg.train.eval_draws,
            batch_size=cfg.evaluate.batch_size,
            log_likelihood=log_likelihood,
        )
        return {name: found[name] for name in ("nats_per_token", "standard_error")}

    return validate


def sample(
    family: Family,
    workdir: str | Path,
    cfg: SampleConfig | None = None,
    *,
    seed: int = 0,
    prompt: str = "",
    infill: str = "",
    out: str | Path | None = None,
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
      trace: keep the order in which tokens were written.

    Returns:
      The samples, those that the file held already included, and what the rest took.

    Raises:
      ValueError: there is no such sampler or run, or the text given leaves no room.
    """
    lm, run, params = open_model(family, workdir)
    return writing.write(
        lm,
        run,
        params,
        jax.random.fold_in(jax.random.key(seed), SAMPLING),
        settle(cfg or run.cfg.sample, lm.samplers, lm.presets),
        origin={"seed": seed, "prompt": prompt, "infill": infill},
        out=out,
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
        stored = Config.from_dict(run_directory.read_json(workdir / "config.json"))
        cfg = _override(vars(stored.evaluate))
        text_file = flags.FLAGS.text_file
        found = evaluate(family, workdir, EvaluateConfig(**cfg), text_file=text_file)
        print(json.dumps(without_lists(found), indent=2))
        if flags.FLAGS.out:
            run_directory.write_json(Path(flags.FLAGS.out), found)

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
    """
    return Config.from_dict(flags.FLAGS.config)


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
