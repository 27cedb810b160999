"""Rebuilds the report of finished runs from their results.json, without a model.

python -m experiments.report --workdir=runs/tiny
python -m experiments.report --workdir=runs/seed0 --workdir=runs/seed1 --out=runs/both

For several runs, it also writes one page that compares them.
"""

import os
from pathlib import Path

from absl import flags

from experiments.compare.results import read_results
from experiments.report.gif import player_gif
from experiments.report.html import write_report
from experiments.report.overlay import write_overlay
from experiments.report.player import player_page
from lm_jax import command_line, files
from lm_jax.config import require


def main() -> None:
    """Reads all runs before it writes anything."""
    require(
        len(flags.FLAGS.workdir) == 1 or not flags.FLAGS.gif,
        f"--gif={flags.FLAGS.gif} is the picture of one run: pass one --workdir",
    )
    gif = Path(flags.FLAGS.gif)
    require(
        not gif.name or gif.suffix.lower() == ".gif",
        f"--gif={gif} is no name of a GIF file: pass --gif={gif.stem}.gif",
    )
    workdirs = [str(command_line.expand(text)) for text in flags.FLAGS.workdir]
    require(
        len(workdirs) > 1 or not flags.FLAGS.out,
        f"--out={flags.FLAGS.out} is the directory of the page that compares several "
        "runs: pass a second --workdir, or leave --out out",
    )
    runs = {workdir: read_results(workdir) for workdir in workdirs}
    for workdir, results in runs.items():
        print(write_report(results, workdir))
        if flags.FLAGS.player:
            path = Path(workdir) / "player.html"
            path.write_text(player_page(results), encoding="utf-8")
            print(path)
    if flags.FLAGS.gif:
        path = command_line.path("gif")
        (results,) = runs.values()
        with files.whole_file(path) as part:
            part.write_bytes(player_gif(results))
        print(path)
    if len(runs) > 1:
        out = flags.FLAGS.out or os.path.join(workdirs[0], "overlay")
        names = short_names(list(runs))
        named = dict(zip(names, runs.values(), strict=True))
        print(write_overlay(named, command_line.expand(out)))


def short_names(workdirs: list[str]) -> list[str]:
    """Paths of the directories without their common parent, as names of the runs.

    A directory that contains the others is named after its last part.
    """
    paths = [os.path.abspath(workdir) for workdir in workdirs]
    shared = os.path.commonpath(paths)
    names = [os.path.relpath(path, shared) for path in paths]
    return [
        os.path.basename(path) if name == os.curdir else name
        for name, path in zip(names, paths, strict=True)
    ]


if __name__ == "__main__":
    flags.DEFINE_multi_string(
        "workdir", [], "Directory of a comparison; give it again for each further one."
    )
    flags.DEFINE_string(
        "out",
        "",
        "Directory of the page that compares the runs; default: overlay/ of the first.",
    )
    flags.DEFINE_bool(
        "player", False, "Also write player.html, a page with the player alone."
    )
    flags.DEFINE_string(
        "gif", "", "GIF file of a sample of every family, call by call; default: none."
    )
    command_line.run(main, required={"workdir": "DIR"})
