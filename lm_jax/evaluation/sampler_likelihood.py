r"""The likelihood of the samples of a sampler: exact, or between two bounds.

The sampler writes a given text x in place of its draws; see `language_model.Sample`. W
is the product of the probabilities with which it would have drawn the tokens of x. Then
E[W] = p(x), the expectation over all its other randomness: the order of the positions,
and the times that the network is given.

    order from visible tokens   nothing else is random: W = p(x)
    random order, K draws       E[log mean_k W_k] <= log p(x), and rising with K; Burda
                                et al. 2015, arXiv:1509.00519. K = 1 is the NELBO
                                log p(x) <= log c + p(x) / c - 1 for every c > 0, with
                                equality at c = p(x)

For the second bound, c is the mean of one half of the draws, and the mean of the other
half estimates p(x). It is reported only where enough draws carry the means, as a mean
of few heavy-tailed draws lies below p(x) almost always.

Blocks that are filled from left to right see true text only, whatever the order inside:
p(x) is the product over blocks of E[W_block], and each block has bounds of its own.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import logsumexp

from lm_jax.config import SampleConfig, require
from lm_jax.evaluation.intervals import as_json, ratio_interval
from lm_jax.evaluation.likelihood import bits_per_byte, over_windows
from lm_jax.language_model import LanguageModel, Order
from lm_jax.types import PAD, Params, PRNGKey, SampleOutput, Tokens, Windows

LogW = Float[np.ndarray, "orders parts"]  # log W of draws; a part is a text or a block

CONFIDENCE = 0.95
MIN_EFFECTIVE_SIZE = 10.0  # an upper bound needs so many effective draws
MAX_ADDEND = math.e  # and no larger addend p(x) / c
MIN_CARRIED = 0.9  # in this share of the parts


class Paths(NamedTuple):
    """Replays of texts.

    Attributes:
      log_p: log-probability of each token when it was written (K, N, L).
      nfe: network calls that each text needed (K, N).
    """

    log_p: Float[np.ndarray, "K N L"]
    nfe: Int[np.ndarray, "K N"]


def replay(
    sample: Callable[..., SampleOutput],
    params: Params,
    windows: Windows,
    sampler: SampleConfig,
    *,
    key: PRNGKey,
    num_orders: int = 1,
    batch_size: int,
    templates: Int[np.ndarray, "N L"] | None = None,
) -> Paths:
    """Replays the sampler on every window.

    Args:
      sample: `LanguageModel.sample` of a model.
      params: its parameters.
      windows: whole windows of text, without PAD; MASK stays masked and has no score.
      sampler: resolved settings of the sampler.
      key: PRNG key; draw k of window i depends on fold_in(fold_in(key, k), i).
      num_orders: number of draws per window.
      batch_size: windows replayed at a time.
      templates: given tokens, which are not scored, and MASK elsewhere; default: none
        are given.
    """

    @jax.jit
    def run(params: Params, key: PRNGKey, x: Tokens, template: Any, first: Array):
        shape = (x.shape[0], x.shape[1])
        found = sample(params, key, shape, sampler, template, first, truth=x)
        return found.log_p, found.nfe_per_row

    def batch(key: PRNGKey, x: Tokens, index: Int[Array, " B"]) -> Any:
        given = None
        if templates is not None:  # the last batch has rows beyond the last window
            given = np.take(templates, index, axis=0, mode="clip")
        return run(params, key, x, given, index[0])

    draws = [
        over_windows(partial(batch, jax.random.fold_in(key, k)), windows, batch_size)
        for k in range(num_orders)
    ]
    return Paths(*(np.stack(leaves) for leaves in zip(*draws, strict=True)))


def log_mean_exp(log_w: LogW) -> Float[np.ndarray, " parts"]:
    """log of the mean of W over draws: in expectation a lower bound on log p."""
    return np.asarray(logsumexp(log_w, axis=0)) - np.log(len(log_w))


def own_path_bound(
    own: Float[np.ndarray, " parts"], log_w: LogW
) -> Float[np.ndarray, " parts"]:
    """An upper bound on log p, in expectation, of texts that the sampler wrote itself.

    log of the mean of W over the path that wrote the text and further draws; it falls
    to log p with their number. There is no such bound for other texts, as the path
    must be drawn from the paths that lead to the text. Grosse et al. 2015,
    arXiv:1511.02543.

    Args:
      own: log W of the path that wrote each text.
      log_w: log W of independent draws, without those paths; there may be none.
    """
    return log_mean_exp(np.concatenate([own[None], log_w]))


def effective_size(log_w: LogW) -> Float[np.ndarray, " parts"]:
    """(sum W)^2 / sum W^2: how many draws carry the mean; 1 to K."""
    return np.exp(2.0 * log_mean_exp(log_w) - log_mean_exp(2.0 * log_w)) * len(log_w)


def tangent(log_w: LogW) -> tuple[Float[np.ndarray, " parts"], ...]:
    """An upper bound on log p in expectation, and the larger of its addends p / c.

    The mean over both halves of the draws as c of log c + p / c - 1.
    """
    halves = np.array_split(log_w, 2)
    c, p = (log_mean_exp(half) for half in halves)
    with np.errstate(over="ignore", invalid="ignore"):  # a half may have p = 0
        addends = np.exp(np.stack([p - c, c - p]))
        bounds = np.stack([c, p]) + addends - 1.0
    return bounds.mean(axis=0), addends.max(axis=0)


def score(
    lm: LanguageModel,
    params: Params,
    windows: Windows,
    sampler: SampleConfig,
    order: Order,
    *,
    key: PRNGKey,
    num_orders: int,
    batch_size: int,
    num_bytes: int,
    num_resamples: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Nats per token of the windows under a sampler.

    Args:
      lm, params: the model and its parameters.
      windows, sampler, key, batch_size: see `replay`.
      order: order of the sampler's tokens.
      num_orders: draws per window of a random order; even.
      num_bytes: number of UTF-8 bytes of the text.
      num_resamples, seed: of the bootstrap over windows.

    Returns:
      kind: "exact" or "bound". nats_per_token, bits_per_byte; data_low and data_high
      cover other windows, by a bootstrap. num_impossible: windows of probability zero,
      for example because of top_k, in every order that was drawn; with any,
      nats_per_token is None. nfe: network calls per window. For a bound, also what
      `bounds` returns.

    Raises:
      ValueError: a window has PAD: it is not what the sampler writes.
    """
    require(
        bool(np.all(windows != PAD)),
        "a window with PAD is no text of a sampler, which fills whole windows: score "
        "the full windows alone",
    )
    num_orders = num_orders if order.is_random else 1
    paths = replay(
        lm.sample,
        params,
        windows,
        sampler,
        key=key,
        num_orders=num_orders,
        batch_size=batch_size,
    )
    about = {
        "kind": "bound" if order.is_random else "exact",
        "num_windows": len(windows),
        "num_tokens": windows.size,
        "num_bytes": num_bytes,
        "nfe": float(paths.nfe.mean()),
    }
    log_p = paths.log_p.astype(np.float64)
    num_tokens = np.full(len(windows), windows.shape[1])
    if not order.is_random:
        nats = -log_p[0].sum(axis=1)
        return about | _per_token(nats, num_tokens, num_bytes, num_resamples, seed)
    found = bounds(log_p, order.block_size)
    nats = found.pop("window_nats")
    return (
        about
        | {"num_orders": num_orders}
        | found
        | _per_token(nats, num_tokens, num_bytes, num_resamples, seed)
    )


def bounds(log_p: Float[np.ndarray, "K N L"], block_size: int = 0) -> dict[str, Any]:
    """Bounds on the nats of texts whose order is random.

    Args:
      log_p: see `Paths`.
      block_size: see `Order`.

    Returns:
      window_nats: upper bound on the nats of each window, -log mean W. certified: it
      plus log(1 / 0.05) for all windows together, in nats per token: with 95%
      confidence the true value is not higher, whatever the tails of W (Markov: the
      product over windows of mean W / p has the mean 1). nelbo: the bound with one
      order. lower: a lower bound on the nats per token, or None; lower_error: its
      standard error over windows. effective_size: median over windows or blocks.
      carried_share: share of them whose upper bound on p enough draws carry. Where a
      text has probability zero in all draws, its nats are infinite and the rest None.
    """
    num_orders, num_windows, length = log_p.shape
    size = block_size or length
    starts = np.arange(0, length, size)
    log_w = np.add.reduceat(log_p, starts, axis=2)
    parts = log_w.reshape(num_orders, -1)
    nats = -log_mean_exp(parts).reshape(num_windows, -1).sum(axis=1)
    if not np.isfinite(nats).all():
        rest = ("certified", "nelbo", "lower", "lower_error")
        return {"window_nats": nats} | dict.fromkeys(rest)
    nelbo = float(-log_p.sum(axis=2).mean(axis=0).sum()) / (length * num_windows)
    found = {
        "window_nats": nats,
        "certified": float(nats.sum() - math.log(1.0 - CONFIDENCE))
        / (length * num_windows),
        "nelbo": nelbo if math.isfinite(nelbo) else None,  # some orders have p = 0
        "effective_size": float(np.median(effective_size(parts))),
    }
    upper, addend = tangent(parts)
    is_carried = effective_size(parts) >= MIN_EFFECTIVE_SIZE
    is_carried &= addend <= MAX_ADDEND
    found["carried_share"] = float(is_carried.mean())
    lower = error = None
    low = -upper.reshape(num_windows, -1).sum(axis=1) / length
    if found["carried_share"] >= MIN_CARRIED and np.isfinite(low).all():
        lower = float(low.mean())
        if num_windows > 1:
            error = float(low.std(ddof=1) / math.sqrt(num_windows))
    return found | {"lower": lower, "lower_error": error}


def _per_token(
    nats: Float[np.ndarray, " N"],
    num_tokens: Int[np.ndarray, " N"],
    num_bytes: int,
    num_resamples: int,
    seed: int,
) -> dict[str, Any]:
    is_possible = np.isfinite(nats)
    found: dict[str, Any] = {"num_impossible": int(np.sum(~is_possible))}
    if not is_possible.all():
        return found | {"nats_per_token": None, "bits_per_byte": None}
    data = as_json(ratio_interval(nats, num_tokens, num_resamples, seed))
    return found | {
        "nats_per_token": float(nats.sum() / num_tokens.sum()),
        "bits_per_byte": float(bits_per_byte(float(nats.sum()), num_bytes)),
        "data_low": data["low"],
        "data_high": data["high"],
        "window_nats": nats.tolist(),
    }
