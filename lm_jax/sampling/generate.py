"""Writing documents: a model, a sampler and what is given, to samples and a file."""

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lm_jax import progress, run_directory
from lm_jax.checksums import fingerprint
from lm_jax.config import SampleConfig, require
from lm_jax.progress import Progress
from lm_jax.run_directory import Run
from lm_jax.sampling.chunks import compile_sampler
from lm_jax.sampling.samples_file import SampleWriter
from lm_jax.sampling.text import Sample, make_samples, make_template
from lm_jax.trained import Trained
from lm_jax.types import PRNGKey, SampleOutput

HOW_MANY = ("num_samples", "batch_size")  # they decide no document


class SamplingStats(NamedTuple):
    """What a call of the sampler took, without compilation.

    Attributes:
      num_samples, num_tokens: samples drawn, and tokens written in them.
      nfe: of the network, each for a whole batch.
      seconds: by the clock.
    """

    num_samples: int = 0
    num_tokens: int = 0
    nfe: int = 0
    seconds: float = 0.0

    def plus(
        self, written: SampleOutput, num_samples: int, seconds: float
    ) -> "SamplingStats":
        """One chunk more, of which the first num_samples were wanted."""
        is_written = np.asarray(written.unmask_step)[:num_samples] >= 0
        return SamplingStats(
            self.num_samples + num_samples,
            self.num_tokens + int(is_written.sum()),
            self.nfe + int(written.nfe),
            self.seconds + seconds,
        )

    @property
    def tokens_per_second(self) -> float | None:
        """None where nothing was left to draw."""
        return self.num_tokens / self.seconds if self.num_samples else None

    def describe(self) -> str:
        """In a sentence, for the terminal."""
        return (
            f"{self.num_samples} samples, {self.num_tokens} tokens and "
            f"{self.nfe} network calls in {self.seconds:.1f} s"
        )


def write(
    model: Trained,
    key: PRNGKey,
    cfg: SampleConfig,
    *,
    origin: Mapping[str, Any],
    out: str | os.PathLike | None,
    overwrite: bool = False,
    trace: bool,
    clock: Callable[[], float],
) -> tuple[list[Sample], SamplingStats]:
    """cfg.num_samples documents, chunk by chunk; document b draws from fold_in(key, b).

    Args:
      model: what writes them.
      key, cfg: what decides them; cfg is settled.
      origin: seed, prompt and infill. No prompt is that of the sampler, if it has one.
      out: a file that grows with the documents; one left half-written is gone on with.
      overwrite: replace that file where it holds other samples.
      trace: whether to keep the order of writing.
      clock: seconds.

    Returns:
      All documents, those that the file held already included, and what the rest took.

    Raises:
      ValueError: the given text does not fit the window or the model, or the file
        holds other samples.
    """
    lm, run, params, step = model
    seed, prompt, infill = (origin[name] for name in ("seed", "prompt", "infill"))
    if cfg.sampler in lm.presets and not infill:
        prompt = prompt or lm.presets[cfg.sampler].prompt
    length = cfg.length or run.cfg.model.length
    require(
        length <= run.cfg.model.length,
        f"sample.length={length} is longer than the window of the run, "
        f"{run.cfg.model.length} tokens: shorten it, or leave it at 0",
    )
    shape = (min(cfg.batch_size, cfg.num_samples), length)
    prompt = _without_line_end(run, prompt)
    template = make_template(run.tokenizer, shape, prompt, infill)
    lm.check_template(template)
    sampler = {
        "family": lm.name,
        "checkpoint": step,
        "parameters": fingerprint(params),
        "prompt": prompt,
        "infill": infill,
        **{name: value for name, value in vars(cfg).items() if name not in HOW_MANY},
    }
    with contextlib.ExitStack() as stack:
        samples, file = [], None
        if out is not None:
            identity = {"seed": seed, "trace": trace, "sampler": sampler}
            identity["versions"] = run_directory.versions()
            file = stack.enter_context(
                SampleWriter(out, identity, cfg.num_samples, overwrite=overwrite)
            )
            samples = list(file.found)
        todo = range(len(samples), cfg.num_samples, shape[0])
        stats = SamplingStats()
        if not todo:
            return samples, stats
        task = f"{lm.name}: sampling"
        bar = Progress(task, cfg.num_samples, "documents", len(samples))
        stack.enter_context(bar)
        draw = compile_sampler(lm, params, key, template, cfg, traced=trace)
        for first in todo:
            start = clock()
            written = draw(first)
            seconds = clock() - start
            rows = make_samples(run.tokenizer, written, template, first, seed, sampler)
            rows = rows[: cfg.num_samples - first]
            if file is not None:
                file.append(rows)
            samples += rows
            bar.advance(len(rows))
            stats = stats.plus(written, len(rows), seconds)
    return samples, stats


def _without_line_end(run: Run, prompt: str) -> str:
    """The prompt without line ends behind it, where no text of the run goes on after
    one: a model has never seen what would follow."""
    stripped = prompt.rstrip()
    ending = prompt[len(stripped) :]
    if "\n" not in ending:
        return prompt
    token = run.tokenizer.encode(["a\n"])[0][-1]
    if np.any(run.valid == token):
        return prompt
    progress.note(
        f"the prompt ends in {ending!r}, which no held-out text of this run holds: it "
        "is left out"
    )
    return stripped
