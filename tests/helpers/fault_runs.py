"""Runs commands on a disk that fails once, and says what became of their files.

    LD_PRELOAD=fault.so python tests/fault_runs.py COMMAND --errno=EIO --every=1

Every N-th operation below the run directory fails in turn, until the command gets
through undisturbed. After each fault the same command runs again without one and must
end as if nothing had happened. Prints one JSON object.
"""

import argparse
import ctypes
import errno
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from logging import getLogger
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging
from fake_models import writer
from tiny_configs import toy

from experiments import families, sweep
from experiments.compare.comparison import compare
from lm_jax import checkpoint, files
from lm_jax import run as runs
from lm_jax.config import Config
from lm_jax.evaluation import likelihood, scores
from lm_jax.sampling import generate
from lm_jax.training import loop
from lm_jax.types import EOS

LIMIT = 20_000  # operations, which no command here needs


def faults() -> ctypes.CDLL:
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
    library.count.restype = ctypes.c_long
    library.what_failed.restype = ctypes.c_char_p
    return library


def text(key, positions):
    return jax.random.randint(key, positions.shape, EOS, 300)


stand_in = writer(text)


def config(cache_dir: str) -> Config:
    cfg = toy(Path(cache_dir))
    return sweep.replace_fields(
        cfg,
        {
            "data.num_stories": 40,
            "data.num_valid_stories": 12,
            "model.vocab_size": 320,
            "model.length": 400,
            "optimizer.warmup_steps": 1,
            "train.num_steps": 2,
            "train.log_every": 1,
            "train.eval_every": 2,
            "train.eval_windows": 4,
            "train.save_every": 1,
            "train.keep": 1,
            "sample.num_samples": 4,
            "sample.batch_size": 2,
            "evaluate.max_windows": 4,
            "evaluate.samplers": (),
            "evaluate.num_resamples": 2,
            "report.num_played": 0,
            "report.infill": "",
        },
    )


def commands(cfg: Config, run: Path):
    """name -> (what is there before, the command)."""

    def stopped(workdir):
        count = iter(range(100))
        runs.train(stand_in, cfg, workdir, should_stop=lambda: next(count) == 0)

    def trained(workdir):
        assert runs.train(stand_in, cfg, workdir)

    def compared(workdir):
        assert compare(cfg, workdir) is not None

    def half_compared(workdir):
        compared(workdir)
        shutil.rmtree(workdir / "mdlm" / "comparison")
        (workdir / "results.json").unlink()

    def sample(workdir):
        runs.sample(
            runs.load(workdir, stand_in), out=workdir / "samples.jsonl", trace=True
        )

    def evaluate(workdir):
        found = runs.evaluate(runs.load(workdir, stand_in))
        files.write_json(workdir / "scores.json", found)

    return {
        "train": (lambda workdir: None, trained),
        "resume": (stopped, trained),
        "sample": (trained, sample),
        "evaluate": (trained, evaluate),
        "compare": (half_compared, compared),
    }


def remember(module, name, key):
    """Keeps what a function of compiled programs returns: every call here has the same
    arguments, and to trace them again takes longer than all else."""
    make, kept = getattr(module, name), {}

    def remembered(*args, **kwargs):
        found = key(*args, **kwargs)
        if found not in kept:
            kept[found] = make(*args, **kwargs)
        return kept[found]

    setattr(module, name, remembered)


def compile_once() -> None:
    """Programs that are equal are compiled once in all calls of a command."""
    for module in (likelihood, scores, runs):
        remember(module, "row_log_likelihood", lambda lm: None)
    remember(loop, "make_train_step", lambda lm, *args, **kwargs: None)
    remember(
        generate,
        "compile_sampler",
        lambda lm, params, key, template, cfg, traced: (
            template.shape,
            cfg,
            traced,
        ),
    )


# Times and machines; and what sampling took, which is of the part after the fault.
VOLATILE = ("seconds", "tokens_per_second", "versions", "commit", "machine", "log_p")
VOLATILE += ("nfe", "num_samples", "num_tokens")


def outcome(run: Path):
    """What must be equal at the end: parameters, lines and texts, but no times."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.name == "checkpoints":
            params = checkpoint.restore_params(path)
            found[name] = [np.asarray(x).tobytes() for x in jax.tree.leaves(params)]
            found[f"{name}/latest"] = checkpoint.latest_step(path)
        elif path.name == "metrics.jsonl":
            lines = map(json.loads, path.read_text().splitlines())
            found[name] = [_without_times(line) for line in lines]
        elif path.name.endswith(".jsonl"):
            found[name] = path.read_bytes()
        elif path.suffix == ".json" and "checkpoints" not in name:
            found[name] = _without_times(json.loads(path.read_text()))
    return found


def _without_times(value):
    if isinstance(value, dict):
        return {
            key: _without_times(part)
            for key, part in value.items()
            if not any(word in key for word in (*VOLATILE, "sha256"))
        }
    return value


def sound_steps(run: Path):
    """The checkpoints that can be read, by directory."""
    found = {}
    for path in run.rglob("checkpoints"):
        steps = {int(name) for name in files.names(path) if name.isdigit()}
        found[path.parent.name] = steps
    return found


def check(before, after) -> None:
    """No checkpoint is gone unless two newer ones stand there, and none is renamed."""
    for name, steps in before.items():
        newest = max(steps, default=0)
        assert newest <= max(after.get(name, {0}), default=0), (before, after)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--errno", default="EIO")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--cache_dir", required=True)
    options = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    logging.set_verbosity(logging.ERROR)
    warnings.simplefilter("ignore")
    getLogger("asyncio").setLevel("CRITICAL")
    jax.config.update("jax_compilation_cache_dir", f"{options.cache_dir}/jax")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compile_once()
    families.FAMILIES.clear()
    for label in ("AR", "MDLM"):
        families.FAMILIES[label] = writer(text, label.lower())
    library, root = faults(), Path(tempfile.mkdtemp()).resolve()
    run, pristine = root / "run", root / "pristine"
    prepare, command = commands(config(options.cache_dir), run)[options.command]
    prepare(run)
    if run.exists():
        shutil.copytree(run, pristine)
    before = sound_steps(run)
    library.arm(str(run).encode(), 0, 0)
    command(run)
    total, expected = library.count(), outcome(run)
    kinds, failed = Counter(), Counter()
    for number in range(options.first, LIMIT, options.every):
        shutil.rmtree(run)
        if pristine.exists():
            shutil.copytree(pristine, run)
        library.arm(str(run).encode(), number, getattr(errno, options.errno))
        try:
            command(run)
            ended = "finished"
        except (ValueError, OSError, FloatingPointError) as error:
            ended = "stopped"
            assert str(error), error
        reached = library.count() >= number
        what = (library.what_failed() or b"").decode()
        library.arm(b"", 0, 0)
        if not reached:  # how often a library looks for a file depends on the load
            if number > total:
                break
            continue
        where = f"{options.command}, {options.errno} at operation {number}: {what}"
        try:
            check(before, sound_steps(run))
            assert not list(run.rglob("*.damaged*")), "set aside"
            command(run)
            found = outcome(run)
            for name in expected.keys() | found.keys():
                assert expected.get(name) == found.get(name), (
                    name,
                    str(expected.get(name))[:200],
                    str(found.get(name))[:200],
                )
        except Exception:
            print(where, file=sys.stderr)
            raise
        kinds[what.split()[0]] += 1
        failed[ended] += 1
    else:
        raise AssertionError("the command never got through")
    print(
        json.dumps(
            {
                "command": options.command,
                "errno": options.errno,
                "operations": total,
                "failed": dict(kinds),
                "ended": dict(failed),
            }
        )
    )
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
