"""Generation of samples, batch by batch, into memory or a file."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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
    template: Int[np.ndarray, "B L"],
    tokenizer: Tokenizer,
    identity: Mapping[str, Any],
    *,
    out: str | os.PathLike | None = None,
    overwrite: bool = False,
    task: str = "sampling",
) -> tuple[list[Sample], SamplingStats]:
    """Draws cfg.num_samples samples, batch by batch; sample b uses fold_in(key, b).

    Args:
      lm, params, key, cfg: model, parameters, key and settings of the samples.
      template: given tokens of a batch, and MASK at the positions to sample.
      tokenizer: tokenizer of the run.
      identity: all other values that determine the samples, as JSON: "seed", "trace"
        (whether to keep the order of unmasking), "sampler", "versions".
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
    with contextlib.ExitStack() as stack:
        samples, file = [], None
        if out is not None:
            writer = SampleWriter(
                out, dict(identity), cfg.num_samples, overwrite=overwrite
            )
            file = stack.enter_context(writer)
            samples = list(file.found)
        todo = range(len(samples), cfg.num_samples, template.shape[0])
        stats = SamplingStats()
        if not todo:
            return samples, stats
        bar = Progress(task, cfg.num_samples, "samples", len(samples))
        stack.enter_context(bar)
        draw = compile_sampler(
            lm, params, key, template, cfg, traced=bool(identity["trace"])
        )
        for first in todo:
            start = time.perf_counter()
            output = draw(first)
            seconds = time.perf_counter() - start
            rows = make_samples(
                tokenizer,
                output,
                template,
                first,
                identity["seed"],
                identity["sampler"],
            )
            rows = rows[: cfg.num_samples - first]
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
      (first_row, params=params) -> rows first_row, ..., first_row + B - 1, on the host.
    """
    batch = template.shape[0]
    devices = jax.local_devices()
    is_even = batch % len(devices) == 0
    mesh = sharding.make_mesh(batch, devices) if is_even else None
    first_params, key = sharding.replicate(mesh, (params, key))
    given = sharding.shard_batch(mesh, template)

    def draw(params: Params, key: PRNGKey, given: jax.Array, first: jax.Array):
        return lm.sample(params, key, template.shape, cfg, given, first, traced)

    compiled = jax.jit(draw).lower(first_params, key, given, jnp.int32(0)).compile()

    def run(first_row: int, params: Params = None) -> SampleOutput:
        copy = first_params if params is None else sharding.replicate(mesh, params)
        return jax.device_get(compiled(copy, key, given, jnp.int32(first_row)))

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
