"""A comparison: both families trained, sampled and evaluated under equal conditions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments import jobs
from experiments.cached_json import cached_json
from experiments.compare import (
    exact,
    frontier,
    held_out,
    judge,
    results,
    seeds,
    traces,
)
from experiments.compare.plan import lacks_humans, resolve
from experiments.compare.samples import DIRECTORY, SAMPLES, drawn
from experiments.families import FAMILIES, own_configs
from lm_jax import checkpoint, distributed, files, run, signals
from lm_jax.config import Config
from lm_jax.data import dataset
from lm_jax.language_model import Family
from lm_jax.sampling.samples_file import Sample
from lm_jax.training import malloc


def compare(
    cfg: Config,
    workdir: Path,
    command: str = "",
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Trains, samples and evaluates both families; returns the content of results.json.

    Args:
      cfg: configuration of both families.
      workdir: output directory: ar/, mdlm/ and results.json; runs of further seeds are
        in seed_1/ar/ and so on.
      command: command line, which is stored with the results.
      should_stop: called after each training step; True saves and ends early.

    Returns:
      The results, or None if training stopped early.
    """
    cfg = resolve(cfg)
    if not train_all(cfg, workdir, should_stop):
        return None
    runs = seeds.runs(cfg, workdir)
    human_reference = held_out.load(cfg, workdir)
    if lacks_humans(cfg, len(human_reference.human)):
        human_reference = human_reference._replace(human=[], is_finished=[])
    found = [
        results.assemble(run_cfg, command, _parts(run_cfg, path), human_reference)
        for run_cfg, path in runs
    ]
    whole = found[0] | {"config": cfg.to_dict()}
    if len(found) > 1:
        whole["seeds"] = seeds.summary(found)
    if cfg.frontier.num_samples:
        whole["frontier"] = frontier.frontier(cfg, workdir, human_reference)
    if cfg.evaluate.judge or cfg.evaluate.judge_steps:
        samples = {
            FAMILIES[label].name: _samples(
                FAMILIES[label], own, workdir / FAMILIES[label].name
            )[0]
            for label, own in own_configs(runs[0][0]).items()
        }
        judge.add_judgement(cfg, workdir, human_reference, whole, samples)
    files.write_json(workdir / "config.json", cfg.to_dict())
    files.write_json(workdir / "results.json", whole)
    return whole


def train_all(
    cfg: Config,
    workdir: Path,
    should_stop: Callable[[], bool] = lambda: False,
    at_once: int = 1,
) -> bool:
    """Trains both families with every seed; False if it stopped early.

    Every process of a distributed run calls it. `compare` calls it first.

    Args:
      cfg, workdir, should_stop: as in `compare`.
      at_once: runs side by side; if there are several, each is a process of its own,
        and so is the sampling and the scoring of each model.
    """
    cfg = distributed.process_zero_first(
        lambda: resolve(cfg)
    )  # reports bad input first
    workdir.mkdir(parents=True, exist_ok=True)
    trainings = [
        (label, own, path / FAMILIES[label].name)
        for run_cfg, path in seeds.runs(cfg, workdir)
        for label, own in own_configs(run_cfg).items()
    ]
    if at_once == 1:
        return all(
            run.train(FAMILIES[label], own, path, should_stop=should_stop)
            for label, own, path in trainings
        )
    # The longest jobs come first: those of samplers with steps, and samples.
    measured = sorted(trainings, key=lambda run: not FAMILIES[run[0]].has_steps)
    phases = {
        "train_run": [(None, training) for training in trainings],
        "measure_run": [
            (what, training) for what in ("samples", "scores") for training in measured
        ],
    }
    with files.only_writer(workdir):
        return all(
            jobs.run_jobs(
                f"{__name__}.{work}",
                [_job(workdir, what, *training) for what, training in todo],
                at_once,
                should_stop,
            )
            for work, todo in phases.items()
        )


def _job(
    workdir: Path, what: str | None, label: str, cfg: Config, path: Path
) -> jobs.Job:
    """A job for a run of a comparison: its training, or a part of what follows."""
    name = path.relative_to(workdir).as_posix()
    arguments = {"label": label, "config": cfg.to_dict(), "path": str(path)}
    if what is not None:
        name += f" ({what})"
        arguments |= {"what": what, "has_frontier": path.parent == workdir}
    return jobs.Job(name, arguments, run.num_threads_of(path))


def train_run(label: str, config: dict[str, Any], path: str) -> bool:
    """A job of `train_all`: trains one model.

    Returns:
      Whether it has finished; False if it was told to stop.
    """
    cfg = Config.from_dict(config)
    malloc.disable_malloc_trim(cfg)
    with signals.finish_step(announce=False) as should_stop:
        return run.train(FAMILIES[label], cfg, path, should_stop=should_stop)


def measure_run(
    label: str, config: dict[str, Any], path: str, what: str, has_frontier: bool
) -> bool:
    """A job of `train_all`: draws a trained model's samples and those of the frontier,
    or scores it and fills the gaps. All of it is stored, and `compare` reads it.

    Returns:
      True.
    """
    family, cfg, workdir = FAMILIES[label], Config.from_dict(config), Path(path)
    if what == "samples":
        _samples(family, cfg, workdir)
        if has_frontier and cfg.frontier.num_samples:
            frontier.draw_others(family, cfg, workdir)
        return True
    scored_once(family, cfg, workdir)
    traces.infills(family, cfg, workdir)
    if has_frontier and cfg.frontier.num_samples:
        frontier.likelihoods(family, cfg, workdir)
    return True


def _parts(cfg: Config, workdir: Path) -> dict[str, dict[str, Any]]:
    """Scores, samples and training metrics of each family, by name."""
    parts = {}
    for label, own in own_configs(cfg).items():
        family = FAMILIES[label]
        lm, run_path = family.make(own), workdir / family.name
        samples, sampling = _samples(family, own, run_path)
        parts[family.name] = {
            "label": label,
            "is_bound": family.is_bound,
            "num_threads": run.num_threads_of(run_path),
            **_count_parameters(lm.init),
            "flops_per_token": lm.flops_per_token,
            **results.read_training(run_path),
            "likelihood": scored_once(family, cfg, run_path),
            "sampling": sampling,
            **traces.traces(family, own, run_path, samples),
            "stories": samples,
        }
    return parts


def _samples(
    family: Family, cfg: Config, path: Path
) -> tuple[list[Sample], dict[str, Any]]:
    """The samples of a run and their sampling statistics, computed once."""
    which = cfg.evaluate.checkpoint

    def log_p(samples: Sequence[Sample]) -> dict[str, Any]:
        if cfg.data.corpus != "storyworld" or cfg.data.windows != "document":
            return {}  # backward divergence is not defined
        draws = cfg.evaluate.num_draws
        model = run.load(path, family, which)
        return {"log_p": run.score_samples(model, samples, draws)}

    return drawn(
        family,
        path,
        SAMPLES,
        cfg.sample,
        seed=cfg.seed,
        which=which,
        trace=True,
        measure=log_p,
    )


def scored_once(family: Family, cfg: Config, path: Path) -> dict[str, Any]:
    """The final likelihood scores of the run in `path`, computed once."""
    which = cfg.evaluate.checkpoint
    wanted = {
        "settings": cfg.to_dict()["evaluate"],
        "checkpoint": checkpoint.identity(path / checkpoint.DIRECTORY, which),
    }

    def score() -> dict[str, Any]:
        model = run.load(path, family, which)
        scores = run.evaluate(model, cfg.evaluate)
        return {"scores": scores | {"samplers": exact.sampler_scores(model, cfg)}}

    return cached_json(path / DIRECTORY / "scores.json", wanted, score)["scores"]


def _count_parameters(init: Callable) -> dict[str, int]:
    """Number of all parameters and of those in the time embedding (MDLM only)."""
    params = jax.eval_shape(lambda: init(jax.random.key(0)))

    def count(tree: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    return {
        "num_params": count(params),
        "num_time_embedding_params": count(params.get("time_embedding", {})),
    }


def described(cfg: Config, workdir: Path) -> str:
    """The plan of a comparison in `workdir` as text, for --dry_run.

    Raises:
      ValueError: if the directory belongs to another run.
    """
    data = dataset.load(cfg)
    lines = [f"corpus {data.name}: {len(data.train):,} training windows of "]
    lines[0] += f"{cfg.model.length} tokens, {len(data.valid):,} held-out windows"
    for run_cfg, path in seeds.runs(cfg, workdir):
        for label, own in own_configs(run_cfg).items():
            family = FAMILIES[label]
            samplers = ", ".join(frontier.settings(own, family))
            line = run.plan(family, own, path / family.name)
            lines.append(f"{line}; samplers: {samplers}")
    lines.append("nothing was trained: leave out --dry_run to train")
    return "\n".join(lines)
