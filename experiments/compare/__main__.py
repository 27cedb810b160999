"""Trains, samples and compares both families under equal conditions.

python -m experiments.compare
python -m experiments.compare --config=experiments/configs/tinystories_cpu.py \\
    --config.data.train_files=train.txt --config.data.valid_files=valid.txt \\
    --workdir=runs/tinystories

A second call computes only what is missing. Several processes can train together
(docs/distributed.md); process 0 then does the rest alone.
"""

from pathlib import Path

from absl import flags

from experiments import jobs
from experiments.compare.comparison import compare, described, train_all
from experiments.compare.plan import resolve
from experiments.families import FAMILIES
from experiments.provenance import command_of
from experiments.report import tiles
from experiments.report.html import write_report
from experiments.report.series import Results
from lm_jax import app, command_line, files, signals
from lm_jax.training.malloc import disable_malloc_trim

DEFAULT_CONFIG = Path(__file__).parents[1] / "configs" / "tiny.py"


def main() -> None:
    """Runs the command."""
    workdir = command_line.path("workdir")
    cfg = command_line.read_config()
    if flags.FLAGS.dry_run:
        print(described(resolve(cfg), workdir))
        return
    disable_malloc_trim(cfg)
    at_once = jobs.at_once(flags.FLAGS.jobs, cfg.num_seeds * len(FAMILIES))
    with signals.finish_step() as should_stop:
        is_trained = train_all(cfg, workdir, should_stop, at_once)
    if not is_trained:
        print("stopped and saved; run the same command again to continue")
        return
    app.go_on_alone()
    cfg = resolve(cfg)
    with files.only_writer(workdir):
        found = compare(cfg, workdir, command_of("compare"))
    assert found is not None  # should_stop is never True here
    report = write_report(found, workdir)
    print(ending(found, workdir, report))


def ending(results: Results, workdir: Path, report: Path) -> str:
    """What the terminal shows at the end: answers, files, and what to try next."""
    name = list(results["families"])[-1]
    return "\n".join(
        [
            tiles.to_text(results),
            "",
            f"report: {report} (and {report.with_suffix('.md').name} there)",
            "next:   the same command with --config.num_seeds=3: intervals over seeds",
            f"        python -m {name}_jax.sample --workdir={workdir / name}",
            f"        python -m {name}_jax.evaluate --workdir={workdir / name}",
        ]
    )


if __name__ == "__main__":
    command_line.define_config(DEFAULT_CONFIG)
    flags.DEFINE_string("workdir", "runs/tiny", "Directory of the comparison.")
    flags.DEFINE_bool(
        "dry_run",
        False,
        "Check the whole configuration and print the plan, without training.",
    )
    flags.DEFINE_integer("jobs", 0, jobs.FLAG)
    command_line.run(main, may_be_one_of_many=True)
