"""The error of each sampler, with exact conditionals in the place of a network.

p is a source with exact conditionals (`sources`), q the distribution of a sampler that
uses them. Whatever differs is the sampler's own error:

    forward KL   E_p[log p(x) - log q(x)], windows of the source
    reverse KL   E_q[log q(x) - log p(x)], samples; the sampler says log q(x) itself

Both are exact for each window where the sampler's likelihood is. For a random order,
the forward KL is an upper bound by the mean over orders, and the reverse KL lies
between two bounds. For every sampler, -log p of its samples is compared with the
entropy of the source: equal values are necessary for q = p, and not enough.

With a network that was trained on the source in place of the conditionals, the same
numbers are the total error. What it has above the sampler's own is the network's share;
it may be negative, as the errors of a network can help.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.sampler_audit.sources import Source, logits_fn
from lm_jax.config import SampleConfig
from lm_jax.evaluation import sampler_likelihood
from lm_jax.evaluation.intervals import as_json, mean_interval
from lm_jax.evaluation.sampler_likelihood import LogW
from lm_jax.language_model import LanguageModel
from lm_jax.types import Params, PRNGKey, SampleOutput, Tokens
from mdlm_jax import sampling
from mdlm_jax.samplers.base import split_logits_fn

WITH_STEPS = (
    "spread",
    "confidence",
    "margin",
    "entropy",
    "ancestral",
    "remdm_cap",
    "shuffled",
)
BATCH_SIZE = 64
NETWORK_WINDOWS = 64


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
    source: Source,
    x: Tokens,
    name: str,
    cfg: SampleConfig,
    key: PRNGKey,
    orders: int,
    network: tuple[LanguageModel, Params] | None = None,
) -> dict[str, Any]:
    """One row of the audit: calls, and divergences in nats per token.

    Args:
      source: source of text.
      x: windows of the source.
      name: name of the sampler in figures.
      cfg: settings of the sampler.
      key: key of its randomness.
      orders: draws per window, for a random order; even.
      network: a network trained on the source. With it, "network" has the same
        numbers, from the first NETWORK_WINDOWS windows and half of the orders, and
        "model_share": what its forward KL has above that of the exact conditionals, on
        the same windows.
    """
    exact = partial(sampling.sample, *split_logits_fn(logits_fn(source)))
    about, forward = _measure(source, exact, {}, x, cfg, key, orders)
    row = {
        "sampler": name,
        "num_steps": cfg.num_steps or x.shape[1],
        "entropy_bound": cfg.entropy_bound,
        "threshold": cfg.threshold,
        **about,
    }
    if network is None:
        return row
    lm, params = network
    few = x[:NETWORK_WINDOWS]
    again = jax.random.clone(
        key
    )  # the same noise on purpose: the share is a difference
    total, of_network = _measure(
        source, lm.sample, params, few, cfg, again, orders // 2
    )
    if total["kind"] == "exact":
        share = mean_interval(of_network - forward[: len(few)])
        total["model_share"] = as_json(share)
    return row | {"network": total}


def _measure(
    source: Source,
    sample: Callable[..., SampleOutput],
    params: Params,
    x: Tokens,
    cfg: SampleConfig,
    key: PRNGKey,
    orders: int,
) -> tuple[dict[str, Any], Float[np.ndarray, " N"]]:
    """Calls and divergences of a sampler, and the forward KL of each window."""
    num, length = x.shape
    of_samples, of_orders = jax.random.split(key)
    drawn = jax.jit(partial(sample, shape=(num, length), cfg=cfg))(params, of_samples)
    source_nats = -np.asarray(source.log_p(drawn.tokens), np.float64) / length
    found: dict[str, Any] = {
        "nfe": float(drawn.nfe_per_row.mean()),
        "source_nats": as_json(mean_interval(source_nats)),
    }
    try:
        order = sampling.order(cfg, length)
    except ValueError:
        return found | {"kind": "none"}, np.zeros(0)

    def log_w(texts: Tokens, key: PRNGKey) -> LogW:
        paths = sampler_likelihood.replay(
            sample,
            params,
            np.asarray(texts, np.uint16),
            cfg,
            key=key,
            num_orders=orders if order.is_random else 1,
            batch_size=BATCH_SIZE,
        )
        return paths.log_p.sum(axis=2, dtype=np.float64)

    log_q = sampler_likelihood.log_mean_exp(log_w(x, of_orders))
    forward = (np.asarray(source.log_p(x), np.float64) - log_q) / length
    found |= {
        "kind": "bound" if order.is_random else "exact",
        "forward_kl": as_json(mean_interval(forward)),
    }
    own = np.asarray(jnp.sum(drawn.log_p, axis=1), np.float64)
    if not order.is_random:
        found["reverse_kl"] = as_json(mean_interval(own / length + source_nats))
        return found, forward
    others = log_w(drawn.tokens, jax.random.fold_in(of_orders, 1))
    for side, log_q in (
        ("low", sampler_likelihood.log_mean_exp(others)),
        ("high", sampler_likelihood.own_path_bound(own, others[1:])),
    ):
        reverse = mean_interval(log_q / length + source_nats)
        found[f"reverse_kl_{side}"] = as_json(reverse)
    return found, forward
