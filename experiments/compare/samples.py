"""The samples of a comparison: drawn once and stored in <run>/comparison/.

No other command writes there. A record beside the samples holds their settings and
digests. Samples that do not match their record are drawn again.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.cached_json import cached_json
from lm_jax import checkpoint, run
from lm_jax.config import SampleConfig
from lm_jax.language_model import Family
from lm_jax.sampling.samples_file import Sample, read_samples

DIRECTORY = "comparison"  # in the directory of a run
SAMPLES = "samples"  # samples with the run's own settings


def drawn(
    family: Family,
    path: Path,
    name: str,
    cfg: SampleConfig,
    *,
    seed: int,
    which: str,
    prompt: str = "",
    infill: str = "",
    trace: bool = False,
    measure: Callable[[Sequence[Sample]], dict[str, Any]] = lambda samples: {},
) -> tuple[list[Sample], dict[str, Any]]:
    """Samples of the run in `path`, and their sampling statistics.

    Args:
      family: model family of the run.
      path: directory of the run.
      name: name of the file in <run>/comparison, without its suffix.
      cfg, seed, prompt, infill, trace: settings of the samples; see `run.sample`.
      which: checkpoint of the run; see `run.load`.
      measure: samples -> further numbers, which are stored with the statistics.
    """
    file = path / DIRECTORY / f"{name}.jsonl"
    wanted = {
        "seed": seed,
        "settings": dataclasses.asdict(cfg),
        "prompt": prompt,
        "infill": infill,
        "trace": trace,
        "checkpoint": checkpoint.identity(path / checkpoint.DIRECTORY, which),
    }

    def draw() -> dict[str, Any]:
        samples, stats = run.sample(
            run.load(path, family, which),
            cfg,
            seed=seed,
            prompt=prompt,
            infill=infill,
            out=file,
            overwrite=True,
            trace=trace,
        )
        speed = stats._asdict() | {"tokens_per_second": stats.tokens_per_second}
        return speed | measure(samples)

    record = file.with_name(f"{name.rpartition('/')[2]}.json")
    found = cached_json(record, wanted, draw, makes=[file])
    return read_samples(file), found
