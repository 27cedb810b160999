"""Chunks: more samples than memory holds, by one program and a batch at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from lm_jax import sharding
from lm_jax.config import SampleConfig
from lm_jax.language_model import LanguageModel
from lm_jax.types import Params, PRNGKey, SampleOutput


def compile_sampler(
    lm: LanguageModel,
    params: Params,
    key: PRNGKey,
    template: Int[np.ndarray, "B L"],
    cfg: SampleConfig,
    *,
    traced: bool = False,
) -> Callable[[int], SampleOutput]:
    """first_row -> rows first_row, ..., first_row + B - 1 of all samples, on the host.

    The program is compiled here, once. Where B is a multiple of the number of devices
    of this process the rows are dealt out to them; otherwise one writes. Nothing of a
    chunk stays on a device, so that memory does not grow with the number of samples.

    Args:
      lm, params, key, cfg, traced: of the samples.
      template: the given tokens of a chunk, MASK where text is wanted.
    """
    batch = template.shape[0]
    devices = jax.local_devices()
    is_even = batch % len(devices) == 0
    mesh = sharding.make_mesh(batch, devices) if is_even else None
    params, key = sharding.replicate(mesh, (params, key))
    given = sharding.shard_batch(mesh, template)

    def draw(params: Params, key: PRNGKey, given: jax.Array, first: jax.Array):
        return lm.sample(params, key, template.shape, cfg, given, first, traced)

    arguments = (params, key, given)
    compiled = jax.jit(draw).lower(*arguments, jnp.int32(0)).compile()
    return lambda first: jax.device_get(compiled(*arguments, jnp.int32(first)))
