"""All likelihood metrics of a model on a set of windows."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from lm_jax.config import EvaluateConfig, require
from lm_jax.data.windows import without_given
from lm_jax.evaluation import calibration
from lm_jax.evaluation.intervals import as_json, ratio_interval
from lm_jax.evaluation.likelihood import (
    PerWindow,
    by_document,
    row_log_likelihood,
    summary,
    window_nats,
)
from lm_jax.keys import ScoringStream
from lm_jax.language_model import LanguageModel
from lm_jax.types import PAD, Params, PRNGKey, Windows


def scores(
    lm: LanguageModel,
    params: Params,
    windows: Windows,
    cfg: EvaluateConfig,
    *,
    key: PRNGKey,
    num_bytes: int,
    num_words: int,
    num_given: Int[np.ndarray, " windows"] | None = None,
    document: Int[np.ndarray, " windows"] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The score of `likelihood.score`, perplexities, and its details.

    perplexity_per_token is exp(nats / tokens), perplexity_per_word exp(nats / words):
    sums are divided once, and nats include the ends of documents; if nats are a bound,
    so is each. low and high cover the draws for these windows alone; data_low and
    data_high cover other windows as well, by a bootstrap over windows, whose scores
    include the noise of their draws.

    Args:
      lm: language model.
      params: parameters of the model.
      windows: packed tokens to score.
      cfg: numbers of windows, draws and resamples.
      key: PRNG key; window i draws from fold_in of keys derived from it with i.
      num_bytes: number of UTF-8 bytes of the scored text.
      num_words: number of words of the scored text.
      num_given: see `likelihood.window_nats`.
      document: index of the document of each window, for the scores of "documents".
      seed: seed of the bootstrap.

    Raises:
      ValueError: the details of cfg need windows without given tokens.
    """
    require(
        num_given is None or not cfg.detail_windows,
        f"detail_windows={cfg.detail_windows} need windows that do not overlap: set it "
        "to 0, or stride to 0",
    )
    drawing = {"num_draws": cfg.num_draws, "batch_size": cfg.batch_size}
    log_likelihood = row_log_likelihood(lm)
    nats, errors = window_nats(
        lm,
        params,
        windows,
        key=key,
        num_given=num_given,
        log_likelihood=log_likelihood,
        **drawing,
    )
    scored = windows if num_given is None else without_given(windows, num_given)
    found = summary(lm, scored, nats, errors, num_bytes, cfg.num_draws)
    tokens = np.sum(scored != PAD, axis=1)
    data = ratio_interval(nats, tokens, cfg.num_resamples, seed)
    found |= {
        "data_low": as_json(data)["low"],
        "data_high": as_json(data)["high"],
        "num_words": num_words,
        "perplexity_per_token": float(np.exp(nats.sum() / tokens.sum())),
        "perplexity_per_word": _perplexity(float(nats.sum()), num_words),
        "window_nats": nats.tolist(),
        "window_tokens": tokens.tolist(),
    }
    if document is not None:
        found["documents"] = by_document(lm, document, nats, errors, tokens)
    closer = windows[: cfg.detail_windows]
    if len(closer) and lm.is_bound:
        found["by_draws"] = []
        for draws in _powers_of_two(cfg.num_draws):
            again = window_nats(
                lm,
                params,
                closer,
                key=jax.random.fold_in(
                    jax.random.fold_in(key, ScoringStream.DRAWS.value), draws
                ),
                log_likelihood=log_likelihood,
                num_draws=draws,
                batch_size=cfg.batch_size,
            )
            found["by_draws"].append(_draws_point(lm, closer, again, draws))
        last = nats[: len(closer)], errors[: len(closer)]
        found["by_draws"].append(_draws_point(lm, closer, last, cfg.num_draws))
    if len(closer) and lm.diagnostics is not None:
        of_tokens = jax.random.fold_in(key, ScoringStream.TOKENS.value)
        predictions = calibration.predict(lm, params, closer, key=of_tokens, **drawing)
        for name, measure in (
            ("calibration", calibration.calibration),
            ("by_hidden_share", calibration.loss_by_hidden_share),
            ("by_position", calibration.loss_by_position),
        ):
            found[name] = measure(predictions, cfg.num_resamples, seed)
    return found


def without_lists(scores: dict[str, Any]) -> dict[str, Any]:
    """The scores that are single numbers, without those of each window and each bin."""
    return {
        name: value
        for name, value in scores.items()
        if not isinstance(value, list | dict)
    }


def _draws_point(
    lm: LanguageModel,
    windows: Windows,
    found: tuple[PerWindow, PerWindow],
    num_draws: int,
) -> dict[str, Any]:
    wanted = ("num_draws", "nats_per_token", "standard_error", "low", "high")
    point = summary(lm, windows, *found, num_bytes=1, num_draws=num_draws)
    return {name: point[name] for name in wanted}


def _powers_of_two(limit: int) -> list[int]:
    """2, 4, 8, ... below the limit."""
    return [2**i for i in range(1, limit.bit_length()) if 2**i < limit]


def _perplexity(nats: float, count: int) -> float | None:
    """exp(nats / count); None if count is 0 or the value exceeds exp(700)."""
    if not count or nats / count > 700.0:
        return None
    return float(np.exp(nats / count))
