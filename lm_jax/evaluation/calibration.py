"""Token by token: whether confidence is deserved, and where the nats are spent."""

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

NUM_BINS = 15  # of confidence
NUM_SHARES = 10  # bins of the hidden share
NUM_STRETCHES = 16  # of a window, for the loss by position


class Predictions(NamedTuple):
    """The predictions of all windows, D draws of L tokens side by side.

    Attributes:
      nats, confidence, is_correct, weight, hidden_share: of `TokenScores`.
      position: in the window.
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
    """Draws of lm.token_scores; one of an exact model. Window i has fold_in(key, i)."""
    token_scores = lm.token_scores
    assert token_scores is not None, "ask for predictions only where there are some"
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
    eq. 3. 0 where a token that is given probability p is the right one with frequency
    p. Every bin is off by chance, so finite text never gives 0; the interval is the
    bootstrap over windows, and inherits that bias. It says nothing of the other tokens'
    probabilities.
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
    """Nats of a prediction, by the share of the text that it does not see.

    Ten bins of (0, 1], by their upper ends. What AR predicts last it predicts with all
    else in view, so the same axis serves both families.
    """
    codes = _bins(predictions.hidden_share, NUM_SHARES)
    ends = (np.arange(NUM_SHARES) + 1) / NUM_SHARES
    return _loss_by(predictions, codes, "hidden_share", ends, num_resamples, seed)


def loss_by_position(
    predictions: Predictions, num_resamples: int = 1_000, seed: int = 0
) -> list[dict[str, float]]:
    """Nats of a token by where it stands: 16 stretches, by the position they end at."""
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
    """0 for (0, 1 / n], ..., n - 1 for ((n - 1) / n, 1], but for rounding."""
    ceiling = np.ceil(np.asarray(values, np.float64) * num_bins - 1e-6)
    return np.clip(ceiling - 1, 0, num_bins - 1).astype(np.int64)


def _binned(
    codes: Int[np.ndarray, "N P"], num_bins: int, *values: np.ndarray
) -> Float[np.ndarray, "values N bins"]:
    """Sums of each value over the predictions of a window that fall in a bin."""
    num_windows = len(codes)
    flat = (codes + num_bins * np.arange(num_windows)[:, None]).ravel()
    size = num_windows * num_bins
    return np.stack(
        [
            np.bincount(flat, np.ravel(value), size).reshape(num_windows, num_bins)
            for value in values
        ]
    )
