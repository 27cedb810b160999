"""Generation of samples, batch by batch, into memory or a file."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from lm_jax import sharding
from lm_jax.config import SampleConfig
from lm_jax.data.tokenizers import Tokenizer
from lm_jax.language_model import LanguageModel
from lm_jax.progress import Progress
from lm_jax.sampling.samples_file import Sample, SampleWriter
from lm_jax.sampling.trace import events
from lm_jax.types import Params, PRNGKey, SampleOutput

Draw = Callable[..., SampleOutput]

# Number of the random keys of a line of given text: sample j of line i draws from
# fold_in(key, i * KEYS_PER_LINE + j), whatever the number of samples.
KEYS_PER_LINE = 4096
MAX_LINES = 2**31 // KEYS_PER_LINE


class SamplingStats(NamedTuple):
    """Cost of sampling, without compilation.

    Attributes:
      num_samples, num_tokens: number of samples, and of tokens drawn in them.
      nfe: number of network calls, each for a whole batch.
      seconds: wall-clock time.
    """

    num_samples: int = 0
    num_tokens: int = 0
    nfe: int = 0
    seconds: float = 0.0

    def plus(
        self, output: SampleOutput, num_samples: int, seconds: float
    ) -> "SamplingStats":
        """Adds the first num_samples rows of a batch."""
        is_drawn = np.asarray(output.unmask_step)[:num_samples] >= 0
        return SamplingStats(
            self.num_samples + num_samples,
            self.num_tokens + int(is_drawn.sum()),
            self.nfe + int(output.nfe),
            self.seconds + seconds,
        )

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second of wall-clock time; None if nothing was drawn."""
        return self.num_tokens / self.seconds if self.num_samples else None

    def describe(self) -> str:
        """One sentence for the terminal."""
        return (
            f"{self.num_samples} samples, {self.num_tokens} tokens and "
            f"{self.nfe} network calls in {self.seconds:.1f} s"
        )


def generate(
    lm: LanguageModel,
    params: Params,
    key: PRNGKey,
    cfg: SampleConfig,
    template: Int[np.ndarray, "N L"],
    tokenizer: Tokenizer,
    identity: Mapping[str, Any],
    *,
    lines: Sequence[str] = (),
    out: str | os.PathLike | None = None,
    overwrite: bool = False,
    task: str = "sampling",
) -> tuple[list[Sample], SamplingStats]:
    """Draws cfg.num_samples samples of every row of the template, batch by batch.

    Sample j of row i draws from fold_in(key, i * KEYS_PER_LINE + j). So no sample
    depends on the batch size, on other rows, or on the number of samples.

    Args:
      lm, params, key, cfg: model, parameters, key and settings of the samples.
      template: given tokens, and MASK at the positions to sample; one row for each
        line of given text.
      tokenizer: tokenizer of the run.
      identity: all other values that determine the samples, as JSON: "seed", "trace"
        (whether to keep the order of unmasking), "sampler", "versions".
      lines: text of each row of the template, if samples should record it.
      out: path of a file that grows with the samples; a half-written file is
        continued.
      overwrite: whether to replace a file that holds other samples.
      task: label of the progress bar.

    Returns:
      All samples, also those that were in the file before, and the cost of the new
      ones.

    Raises:
      ValueError: the file holds other samples.
    """
    total = len(template) * cfg.num_samples
    batch = min(cfg.batch_size, total)
    with contextlib.ExitStack() as stack:
        samples, file = [], None
        if out is not None:
            writer = SampleWriter(out, dict(identity), total, overwrite=overwrite)
            file = stack.enter_context(writer)
            samples = list(file.found)
        todo = range(len(samples), total, batch)
        stats = SamplingStats()
        if not todo:
            return samples, stats
        bar = Progress(task, total, "samples", len(samples))
        stack.enter_context(bar)
        draw = compile_sampler(
            lm,
            params,
            key,
            np.resize(template, (batch, template.shape[1])),
            cfg,
            traced=bool(identity["trace"]),
        )
        for first in todo:
            numbers = first + np.arange(batch)
            # Rows after the last sample fill up the batch, and are left out below.
            line = np.minimum(numbers // cfg.num_samples, len(template) - 1)
            given, sample = template[line], numbers - line * cfg.num_samples
            start = time.perf_counter()
            output = draw(line * KEYS_PER_LINE + sample - np.arange(batch), given=given)
            seconds = time.perf_counter() - start
            rows = make_samples(
                tokenizer,
                output,
                given,
                first,
                identity["seed"],
                identity["sampler"],
            )
            rows = rows[: total - first]
            if lines:
                rows = [
                    dataclasses.replace(row, line=i + 1, prompt=lines[i])
                    for row, i in zip(rows, line.tolist(), strict=False)
                ]
            if file is not None:
                file.append(rows)
            samples += rows
            bar.advance(len(rows))
            stats = stats.plus(output, len(rows), seconds)
    return samples, stats


def compile_sampler(
    lm: LanguageModel,
    params: Params,
    key: PRNGKey,
    template: Int[np.ndarray, "B L"],
    cfg: SampleConfig,
    *,
    traced: bool = False,
) -> Draw:
    """The sampler of a batch, compiled once.

    If the number of devices of this process divides B, the rows are sharded over them;
    otherwise one device draws all. No batch stays on a device, so memory does not grow
    with the number of samples.

    Args:
      lm, params, key, cfg, traced: see `LanguageModel.sample`.
      template: given tokens of a batch, and MASK at the positions to sample.

    Returns:
      (first_row, params=params, given=template) -> rows first_row, ..., first_row +
        B - 1, on the host; for first_row see also `language_model.Sample`.
    """
    batch = template.shape[0]
    devices = jax.local_devices()
    is_even = batch % len(devices) == 0
    mesh = sharding.make_mesh(batch, devices) if is_even else None
    first_params, key = sharding.replicate(mesh, (params, key))

    first_given = sharding.shard_batch(mesh, template)

    def row_numbers(first_row: Any) -> Int[jax.Array, "B 1"]:
        return sharding.shard_batch(mesh, np.broadcast_to(first_row, batch)[:, None])

    def draw(params: Params, key: PRNGKey, given: jax.Array, first: jax.Array):
        return lm.sample(params, key, template.shape, cfg, given, first[:, 0], traced)

    lowered = jax.jit(draw).lower(first_params, key, first_given, row_numbers(0))
    compiled = lowered.compile()

    def run(first_row: Any, params: Params = None, given: Any = None) -> SampleOutput:
        copy = first_params if params is None else sharding.replicate(mesh, params)
        tokens = first_given if given is None else sharding.shard_batch(mesh, given)
        return jax.device_get(compiled(copy, key, tokens, row_numbers(first_row)))

    return run


def make_samples(
    tokenizer: Tokenizer,
    output: SampleOutput,
    template: Int[np.ndarray, "B L"],
    first_row: int,
    seed: int,
    sampler: dict[str, Any],
) -> list[Sample]:
    """Samples from the output of a sampler for one batch.

    Args:
      tokenizer: tokenizer of the run.
      output: output of the sampler, on the host.
      template: given tokens, and MASK elsewhere.
      first_row: number of the first row.
      seed, sampler: see `Sample`.
    """
    samples = []
    for row, tokens in enumerate(np.asarray(output.tokens)):
        text, finished = tokenizer.first_document(tokens)
        trace = unmask_step = None
        if output.history is not None:
            trace = events(template[row], np.asarray(output.history)[:, row])
            unmask_step = np.asarray(output.unmask_step)[row].tolist()
        samples.append(
            Sample(
                text=text,
                tokens=tokens.tolist(),
                seed=seed,
                sampler={**sampler, "row": first_row + row},
                finished=finished,
                nfe=int(output.nfe_per_row[row]),
                unmask_step=unmask_step,
                trace=trace,
            )
        )
    return samples
