"""Nats per token and bits per byte of a set of windows, for any language model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lm_jax import progress
from lm_jax.config import require
from lm_jax.evaluation.intervals import Z_95
from lm_jax.language_model import LanguageModel
from lm_jax.types import PAD, Params, PRNGKey, Tokens, Windows

PerWindow = Float[np.ndarray, " windows"]
LogLikelihood = Callable[..., Any]


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """nats / (log 2 * num_bytes) of a whole text, comparable across tokenizers.

    Raises:
      ValueError: num_bytes is 0.

    >>> print(f"{bits_per_byte(8 * np.log(2.0), 4):.1f}")
    2.0
    """
    require(num_bytes > 0, f"num_bytes={num_bytes}: bits per byte need a text")
    return nats / (np.log(2.0) * num_bytes)


def score(
    lm: LanguageModel,
    params: Params,
    windows: Windows,
    num_bytes: int,
    *,
    key: PRNGKey,
    num_draws: int,
    batch_size: int,
    log_likelihood: LogLikelihood | None = None,
) -> dict[str, Any]:
    """-log p(windows) / tokens: nats are summed over all windows and divided once.

    The standard error and the interval are those of the draws of a bound, for these
    windows alone, not for other windows. For an exact model both have width 0.

    Args:
      lm, params, windows, key, num_draws, batch_size, log_likelihood: see
        `window_nats`.
      num_bytes: number of UTF-8 bytes of the text in the windows.

    Raises:
      ValueError: there is no text in the windows.
    """
    nats, errors = window_nats(
        lm,
        params,
        windows,
        key=key,
        num_draws=num_draws,
        batch_size=batch_size,
        log_likelihood=log_likelihood,
    )
    return summary(lm, windows, nats, errors, num_bytes, num_draws)


def summary(
    lm: LanguageModel,
    windows: Windows,
    nats: PerWindow,
    errors: PerWindow,
    num_bytes: int,
    num_draws: int,
) -> dict[str, Any]:
    """The score of windows from their nats and standard errors."""
    num_tokens, total = int((windows != PAD).sum()), float(nats.sum())
    value = total / num_tokens
    standard_error = float(np.sqrt(np.square(errors).sum())) / num_tokens
    return {
        "nats_per_token": value,
        "bits_per_byte": float(bits_per_byte(total, num_bytes)),
        "is_bound": lm.is_bound,
        "standard_error": standard_error,
        "low": value - Z_95 * standard_error,
        "high": value + Z_95 * standard_error,
        "num_tokens": num_tokens,
        "num_bytes": num_bytes,
        "num_draws": num_draws if lm.is_bound else 0,
        "num_windows": len(windows),
    }


def by_document(
    lm: LanguageModel,
    document: Int[np.ndarray, " windows"],
    nats: PerWindow,
    errors: PerWindow,
    num_tokens: Int[np.ndarray, " windows"],
) -> list[dict[str, Any]]:
    """Nats, standard error (of a bound) and tokens of each document.

    Args:
      lm: language model.
      document: index of the document of each window.
      nats, errors, num_tokens: nats, standard error and scored tokens of each window.
    """
    columns = {
        "nats": np.bincount(document, nats),
        "num_tokens": np.bincount(document, num_tokens).astype(int),
    }
    if lm.is_bound:
        variance = np.bincount(document, np.square(errors))
        columns["standard_error"] = np.sqrt(variance)
    return [
        {"index": i, "is_bound": lm.is_bound}
        | {name: column[i].item() for name, column in columns.items()}
        for i in range(len(columns["nats"]))
    ]


def window_nats(
    lm: LanguageModel,
    params: Params,
    windows: Windows,
    *,
    key: PRNGKey,
    num_draws: int,
    batch_size: int,
    num_given: Int[np.ndarray, " windows"] | None = None,
    log_likelihood: LogLikelihood | None = None,
) -> tuple[PerWindow, PerWindow]:
    """-log p of each window in nats, or a bound on it, and its standard error.

    Args:
      lm: language model.
      params: parameters of the model.
      windows: packed tokens; PAD has no weight.
      key: PRNG key; window i draws from fold_in(key, i), whatever its batch.
      num_draws: masks per window, for a bound; an exact model draws none.
      batch_size: windows scored at a time.
      num_given: number of tokens at the beginning of each window that are given and not
        scored; default: 0.
      log_likelihood: `row_log_likelihood(lm)`, if the caller already has it.

    Raises:
      ValueError: there is no text in the windows.
    """
    score_rows = log_likelihood or row_log_likelihood(lm)

    def score_batch(x: Tokens, index: Int[Array, " B"]) -> Any:
        # The last batch has rows of PAD beyond the last window.
        given = () if num_given is None else (np.take(num_given, index, mode="clip"),)
        return score_rows(params, x, key, index, num_draws, *given)

    log_p, errors = over_windows(score_batch, windows, batch_size)
    return -np.asarray(log_p, np.float64), np.asarray(errors, np.float64)


def row_log_likelihood(lm: LanguageModel) -> LogLikelihood:
    """lm.log_likelihood of rows with given indices, jitted once for all batches.

    Each row is scored as a batch of one, with draws of its own, so neither the batch
    size nor the devices change a score.
    """

    def score_rows(
        params: Params,
        x: Tokens,
        key: PRNGKey,
        index: Int[Array, " B"],
        num_draws: int,
        *num_given: Int[Array, " B"],
    ) -> Any:
        def score_row(row: Tokens, row_key: PRNGKey, *given: Int[Array, " B"]) -> Any:
            return lm.log_likelihood(params, row, row_key, num_draws, *given)

        return by_row(score_row)(x, key, index, *num_given)

    return jax.jit(score_rows, static_argnums=4)


def by_row(score_row: Callable[..., Any]) -> Callable[..., Any]:
    """(x, key, index) -> score_row(x[b : b + 1], fold_in(key, index[b]))[0], all b.

    Further arguments (B, ...) are passed on, as (1, ...) of each row.
    """

    def one(row: Int[Array, " L"], key: PRNGKey, i: Int[Array, ""], *more: Any) -> Any:
        alone = [values[None] for values in more]
        found = score_row(row[None], jax.random.fold_in(key, i), *alone)
        return jax.tree.map(lambda leaf: leaf[0], found)

    def all_rows(x: Tokens, key: PRNGKey, index: Int[Array, " B"], *more: Any) -> Any:
        axes = (0, None, 0, *[0] * len(more))
        return jax.vmap(one, in_axes=axes)(x, key, index, *more)

    return all_rows


def over_windows(
    score_rows: Callable[[Tokens, Int[Array, " B"]], Any],
    windows: Windows,
    batch_size: int,
) -> Any:
    """score_rows(x, index of each row) of all windows, concatenated on the first axis.

    The last batch is filled up with PAD, so that all batches share a compiled program.

    Raises:
      ValueError: there is no text in the windows.
    """
    require(
        bool((windows != PAD).any()),
        f"{len(windows)} windows hold no text: give validation files with a document",
    )
    batch_size = min(batch_size, len(windows))
    chunks = []
    starts = range(0, len(windows), batch_size)
    for start in progress.over(starts, "scoring", "batches of windows"):
        x = windows[start : start + batch_size]
        x = np.pad(x, ((0, batch_size - len(x)), (0, 0)), constant_values=PAD)
        index = jnp.arange(start, start + batch_size)
        chunks.append(score_rows(jnp.asarray(x, jnp.int32), index))
        jax.block_until_ready(chunks[-2:-1])  # at most one batch is in flight
    return jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[: len(windows)], *jax.device_get(chunks)
    )
