"""Calibration, and the loss by position and by hidden share."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from lm_jax.evaluation.intervals import (
    Estimate,
    as_json,
    index_bootstrap,
    ratio_interval,
)
from lm_jax.evaluation.likelihood import by_row, over_windows
from lm_jax.language_model import LanguageModel
from lm_jax.types import Params, PRNGKey, Windows

NUM_BINS = 15  # bins of the confidence
NUM_SHARES = 10  # bins of the hidden share
NUM_STRETCHES = 16  # bins of the position in a window


class Predictions(NamedTuple):
    """The predictions of all windows: P = D draws x L tokens per window.

    Attributes:
      nats, confidence, is_correct, weight, hidden_share: see `TokenScores`.
      position: position of the token in the window.
    """

    nats: Float[np.ndarray, "N P"]
    confidence: Float[np.ndarray, "N P"]
    is_correct: Bool[np.ndarray, "N P"]
    weight: Float[np.ndarray, "N P"]
    hidden_share: Float[np.ndarray, "N P"]
    position: Int[np.ndarray, "N P"]


def predict(
    lm: LanguageModel,
    params: Params,
    windows: Windows,
    *,
    key: PRNGKey,
    num_draws: int,
    batch_size: int,
) -> Predictions:
    """num_draws draws of the model's `token_scores`, or one of an exact model.

    Window i draws from fold_in(key, i).
    """
    assert lm.diagnostics is not None, "this model has no diagnostics"
    token_scores = lm.diagnostics.token_scores
    draws = jnp.arange(num_draws if lm.is_bound else 1)

    @jax.jit
    def score_rows(params: Params, x: Any, index: Any) -> Any:
        def draw(i: Any) -> Any:
            def score_row(row: Any, row_key: PRNGKey) -> Any:
                return token_scores(params, row, jax.random.fold_in(row_key, i))

            return by_row(score_row)(x, key, index)

        scores = jax.lax.map(draw, draws)  # (D, B, L)
        return jax.tree.map(
            lambda leaf: jnp.swapaxes(leaf, 0, 1).reshape(x.shape[0], -1), scores
        )

    found = over_windows(
        lambda x, index: score_rows(params, x, index), windows, batch_size
    )
    position = np.tile(np.arange(windows.shape[1]), (len(windows), len(draws)))
    return Predictions(*found, position=position)


def calibration(
    predictions: Predictions, num_resamples: int = 1_000, seed: int = 0
) -> dict[str, Any]:
    """The expected calibration error of the likeliest token, and its bins.

        ECE = sum_b w_b / w * |accuracy_b - mean confidence_b|

    over 15 bins of equal width of the confidence; Guo et al. 2017, arXiv:1706.04599,
    eq. 3. It is 0 if a token of probability p is correct with frequency p. Sampling
    noise moves every bin, so finite text never gives 0; the interval is a bootstrap
    over windows and has the same bias. The probabilities of other tokens do not enter.
    """
    sums = _binned(
        _bins(predictions.confidence, NUM_BINS),
        NUM_BINS,
        predictions.weight,
        predictions.weight * predictions.is_correct,
        predictions.weight * predictions.confidence,
    )

    def error(index: np.ndarray) -> float:
        weight, correct, confidence = sums[:, index].sum(axis=1)
        total = weight.sum()
        return float(np.abs(correct - confidence).sum() / total) if total else 0.0

    found = index_bootstrap(error, sums.shape[1], num_resamples, seed)
    weight, correct, confidence = sums.sum(axis=1)
    bins = [
        {
            "share": float(weight[b] / weight.sum()),
            "accuracy": float(correct[b] / weight[b]),
            "confidence": float(confidence[b] / weight[b]),
        }
        for b in np.flatnonzero(weight)
    ]
    return {"expected_calibration_error": as_json(found), "bins": bins}


def loss_by_hidden_share(
    predictions: Predictions, num_resamples: int = 1_000, seed: int = 0
) -> list[dict[str, float]]:
    """Nats per prediction, by the share of the text that the prediction does not see.

    Ten bins of (0, 1], named by their upper ends. AR predicts the last token from all
    others, so the same axis fits both families.
    """
    codes = _bins(predictions.hidden_share, NUM_SHARES)
    ends = (np.arange(NUM_SHARES) + 1) / NUM_SHARES
    return _loss_by(predictions, codes, "hidden_share", ends, num_resamples, seed)


def loss_by_position(
    predictions: Predictions, num_resamples: int = 1_000, seed: int = 0
) -> list[dict[str, float]]:
    """Nats per token by position, in at most 16 bins named by their last position."""
    length = int(predictions.position.max()) + 1
    num_bins = min(NUM_STRETCHES, length)
    codes = predictions.position * num_bins // length
    ends = np.ceil((np.arange(num_bins) + 1) * length / num_bins)
    return _loss_by(predictions, codes, "position", ends, num_resamples, seed)


def _loss_by(
    predictions: Predictions,
    codes: Int[np.ndarray, "N P"],
    name: str,
    ends: np.ndarray,
    num_resamples: int,
    seed: int,
) -> list[dict[str, float]]:
    weight = predictions.weight
    weights, nats = _binned(codes, len(ends), weight, weight * predictions.nats)
    rows = []
    for b in np.flatnonzero(weights.sum(axis=0)):
        found: Estimate = ratio_interval(nats[:, b], weights[:, b], num_resamples, seed)
        rows.append({name: float(ends[b]), **as_json(found)})
    return rows


def _bins(values: np.ndarray, num_bins: int) -> Int[np.ndarray, "N P"]:
    """0 for (0, 1 / n], ..., n - 1 for ((n - 1) / n, 1], up to rounding."""
    ceiling = np.ceil(np.asarray(values, np.float64) * num_bins - 1e-6)
    return np.clip(ceiling - 1, 0, num_bins - 1).astype(np.int64)


def _binned(
    codes: Int[np.ndarray, "N P"], num_bins: int, *values: np.ndarray
) -> Float[np.ndarray, "values N bins"]:
    """The sum of each value over the predictions of each window in each bin."""
    num_windows = len(codes)
    flat = (codes + num_bins * np.arange(num_windows)[:, None]).ravel()
    size = num_windows * num_bins
    return np.stack(
        [
            np.bincount(flat, np.ravel(value), size).reshape(num_windows, num_bins)
            for value in values
        ]
    )
