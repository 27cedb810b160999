"""Errors and KL divergences of a model against a source with exact probabilities.

Forward KL(source | model) is the excess loss of the model on text of the source; it
does not see nonsense that the model generates. Backward KL(model | source) does, but it
is infinite if one sample is impossible, so it is taken over the accepted samples and
read with their share.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Num

from lm_jax.config import require
from lm_jax.evaluation.intervals import (
    Estimate,
    index_bootstrap,
    mean_interval,
    ratio_interval,
    share_interval,
)


def error_shares(
    documents: Sequence[str],
    errors: Callable[[str], Mapping[str, int]],
    kinds: Sequence[str],
) -> dict[str, Estimate]:
    """The share of documents with an error of each kind; a document may have several.

    `errors` counts the errors of a document by kind; an accepted document has none.
    """
    found = [errors(document) for document in documents]
    return {
        kind: share_interval(np.array([bool(counts.get(kind)) for counts in found]))
        for kind in kinds
        if any(counts.get(kind) for counts in found)
    }


def source_nats(
    log_p: Num[np.ndarray, " documents"], num_resamples: int = 1_000, seed: int = 0
) -> Estimate | None:
    """Mean -log p under the source over its accepted documents, in nats a document.

    For documents of the source it is the entropy. A lower value means likelier and so
    fewer kinds of documents. None if no document is accepted.
    """
    accepted = log_p[np.isfinite(log_p)]
    return mean_interval(-accepted, num_resamples, seed) if len(accepted) else None


def forward_kl(
    model_nats: Num[np.ndarray, " windows"],
    own_nats: Num[np.ndarray, " windows"],
    num_tokens: Num[np.ndarray, " windows"],
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """KL(source | model) in nats a token: model's nats - source's nats, per token.

    Both score the same text of the source, so the entropy cancels window by window. An
    upper bound if the model's nats are one.
    """
    return ratio_interval(model_nats - own_nats, num_tokens, num_resamples, seed)


def backward_kl(
    model_log_p: Num[np.ndarray, " documents"],
    log_p: Num[np.ndarray, " documents"],
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate | None:
    """KL(model conditioned on acceptance | source), in nats a document.

        mean over accepted documents of (log q - log p) - log a,

    with q the model, p the source and a the share of accepted documents: q / a is the
    model conditioned on acceptance. The expected value is never negative. The
    divergence of the unconditioned model is infinite if a < 1, so a small value with a
    small a is about few documents. A lower bound if log q is one; None if no document
    is accepted.

    Raises:
      ValueError: model and source have not scored equally many documents.
    """
    require(
        len(model_log_p) == len(log_p),
        f"{len(model_log_p)} scores by the model and {len(log_p)} by the source: "
        "score the same documents by both",
    )
    accepted = np.isfinite(log_p)
    if not accepted.any():
        return None
    gap = np.where(accepted, model_log_p - np.where(accepted, log_p, 0.0), 0.0)

    def statistic(index: np.ndarray) -> float:
        hits = int(accepted[index].sum())
        if not hits:
            return float("nan")  # no accepted document: left out of the interval
        return float(gap[index].sum() / hits - np.log(hits / len(index)))

    return index_bootstrap(statistic, len(log_p), num_resamples, seed)
