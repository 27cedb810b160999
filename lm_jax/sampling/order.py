"""Statistics of the order in which the tokens of samples were unmasked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy import stats

from lm_jax.evaluation.intervals import Estimate, mean_interval
from lm_jax.sampling.samples_file import Sample
from lm_jax.sampling.trace import shown_length
from lm_jax.types import EOS


def kendall_tau(unmask_step: Int[np.ndarray, " L"]) -> float:
    """Kendall's tau-b between steps and positions: 1 is left to right, -1 the reverse.

    (concordant - discordant) / sqrt(pairs of unequal step * all pairs), over the
    unmasked positions; Kendall 1945, Biometrika 33. NaN if all of them were unmasked in
    one step, or if there are fewer than two.

    Args:
      unmask_step: step at which each token was unmasked, -1 if it was given.

    >>> kendall_tau(np.array([0, 1, 2, 3])), kendall_tau(np.array([-1, 2, 1, 0]))
    (1.0, -1.0)
    """
    steps = unmask_step[unmask_step >= 0]
    if len(set(steps.tolist())) < 2:
        return float("nan")
    found: Any = stats.kendalltau(np.arange(len(steps)), steps)
    return float(found.statistic)


def order(
    samples: Sequence[Sample], num_resamples: int = 1_000, seed: int = 0
) -> dict[str, Estimate]:
    """Statistics of unmasking orders, each a mean over samples with its 95% interval.

    kendall_tau: `kendall_tau` of the first document of the window, EOS included.
    left_neighbour_share: share of the unmasked tokens, the document's first one left
      out, whose left neighbour was given or unmasked in an earlier step.
    tokens_per_call: tokens unmasked in the window / network calls for it.

    Samples without a trace are left out, and so are samples whose document was unmasked
    in fewer than two steps.
    """
    taus, lefts, rates = [], [], []
    for sample in samples:
        if sample.unmask_step is None:
            continue
        steps, tokens = np.array(sample.unmask_step), np.array(sample.tokens)
        document = steps[: _document_length(tokens)]
        tau = kendall_tau(document)
        if np.isnan(tau):
            continue
        is_sampled = document[1:] >= 0
        taus.append(tau)
        lefts.append(np.mean((document[:-1] < document[1:])[is_sampled]))
        num_sampled = np.count_nonzero(steps[: shown_length(tokens)] >= 0)
        rates.append(num_sampled / max(sample.nfe, 1))
    columns = {
        "kendall_tau": taus,
        "left_neighbour_share": lefts,
        "tokens_per_call": rates,
    }
    if not taus:
        return {}
    return {
        name: mean_interval(np.array(values), num_resamples, seed)
        for name, values in columns.items()
    }


def _document_length(tokens: Int[np.ndarray, " L"]) -> int:
    """Number of tokens up to the first EOS, which is included."""
    ends = np.flatnonzero(tokens == EOS)
    return int(ends[0]) + 1 if ends.size else len(tokens)
