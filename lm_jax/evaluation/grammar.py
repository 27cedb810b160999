"""What a source with exact probabilities says of a model and of its documents.

Two divergences, each blind to what the other sees. Forward, KL(source | model), is what
the model's likelihood lacks on the source's text; it cannot see nonsense that the model
writes. Backward, KL(model | source), is infinite as soon as one document of the model is
impossible, so it is taken over the possible ones and read with their share.
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
    """For each kind of error, the share of documents with one; a document may have several.

    `errors` counts the errors of a document by kind, and has none for an accepted one.
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
    """-log p under the source, nats a document, over the documents that it accepts.

    The source's own documents have its entropy. Below it the documents are likelier than
    the source's own, so fewer kinds of document are told; None where none is accepted.
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
    """KL(source | model) in nats a token: what the model pays more than the source.

    Both score the same text of the source, so the entropy cancels window by window. An
    upper bound where the model's nats are one.
    """
    return ratio_interval(model_nats - own_nats, num_tokens, num_resamples, seed)


def backward_kl(
    model_log_p: Num[np.ndarray, " documents"],
    log_p: Num[np.ndarray, " documents"],
    num_resamples: int = 1_000,
    seed: int = 0,
) -> Estimate | None:
    """KL(model, given that its document is accepted | source), in nats a document.

        mean over accepted documents of (log q - log p) - log a,

    with a the share of accepted documents: q / a is the model among possible documents.
    Never negative in truth. The whole model is at infinity from the source if a < 1,
    so a small value with a small a praises a few good documents. A lower bound where
    log q is one; None where no document is accepted.

    Raises:
      ValueError: the two have not scored equally many documents.
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
            return float("nan")  # an empty resample, which is left out
        return float(gap[index].sum() / hits - np.log(hits / len(index)))

    return index_bootstrap(statistic, len(log_p), num_resamples, seed)
