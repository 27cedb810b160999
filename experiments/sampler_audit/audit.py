"""The error of each sampler, with exact conditionals in the place of a network.

p is a source with exact conditionals (`sources`), q the distribution of a sampler that
uses them. Whatever differs is the sampler's own error:

    forward KL   E_p[log p(x) - log q(x)], windows of the source
    reverse KL   E_q[log q(x) - log p(x)], samples; the sampler says log q(x) itself

Both are exact for each window where the sampler's likelihood is. For a random order,
the forward KL is an upper bound by the mean over orders. For every sampler, -log p of
its samples is compared with the entropy of the source: equal values are necessary for
q = p, and not enough.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.sampler_audit.sources import Source, logits_fn
from lm_jax.config import SampleConfig
from lm_jax.evaluation import sampler_likelihood
from lm_jax.evaluation.intervals import as_json, mean_interval
from lm_jax.types import PRNGKey, Tokens
from mdlm_jax import sampling
from mdlm_jax.samplers.base import split_logits_fn

WITH_STEPS = ("spread", "confidence", "margin", "entropy", "ancestral", "remdm_cap")
BATCH_SIZE = 64


def settings(length: int) -> Iterator[tuple[str, SampleConfig]]:
    """The audited settings: 4, 8, ... steps, or several bounds of adaptive samplers."""
    steps = [2**i for i in range(2, length.bit_length())]
    for name in WITH_STEPS:
        for num in steps:
            num_steps = num if num < length else 0
            yield name, SampleConfig(sampler=name, num_steps=num_steps)
    for bound in (0.25, 0.5, 1.0, 2.0, 4.0):
        yield "eb", SampleConfig(sampler="eb", entropy_bound=bound)
    for threshold in (0.3, 0.5, 0.7, 0.9):
        yield "threshold", SampleConfig(sampler="threshold", threshold=threshold)
    yield "first_hitting", SampleConfig(sampler="first_hitting")


def audit(
    source: Source, x: Tokens, name: str, cfg: SampleConfig, key: PRNGKey, orders: int
) -> dict[str, Any]:
    """One row of the audit: calls, and divergences in nats per token.

    Args:
      source: source of text.
      x: windows of the source.
      name: name of the sampler in figures.
      cfg: settings of the sampler.
      key: key of its randomness.
      orders: draws per window, for a random order.
    """
    num, length = x.shape
    sample = partial(sampling.sample, *split_logits_fn(logits_fn(source)))
    of_samples, of_orders = jax.random.split(key)
    drawn = jax.jit(partial(sample, shape=(num, length), cfg=cfg))({}, of_samples)
    source_nats = -np.asarray(source.log_p(drawn.tokens), np.float64) / length
    row = {
        "sampler": name,
        "num_steps": cfg.num_steps or length,
        "entropy_bound": cfg.entropy_bound,
        "threshold": cfg.threshold,
        "nfe": float(drawn.nfe_per_row.mean()),
        "source_nats": as_json(mean_interval(source_nats)),
    }
    try:
        order = sampling.order(cfg, length)
    except ValueError:
        return row | {"kind": "none"}
    paths = sampler_likelihood.replay(
        sample,
        {},
        np.asarray(x, np.uint16),
        cfg,
        key=of_orders,
        num_orders=orders if order.is_random else 1,
        batch_size=BATCH_SIZE,
    )
    log_q = sampler_likelihood.log_mean_exp(paths.log_p.sum(axis=2, dtype=np.float64))
    forward = (np.asarray(source.log_p(x), np.float64) - log_q) / length
    row |= {
        "kind": "bound" if order.is_random else "exact",
        "forward_kl": as_json(mean_interval(forward)),
    }
    if not order.is_random:
        own = np.asarray(jnp.sum(drawn.log_p, axis=1), np.float64) / length
        row["reverse_kl"] = as_json(mean_interval(own + source_nats))
    return row
