"""BLEU-4 of documents against other documents, as in arXiv:2603.22075 or sacrebleu.

Both are exp(mean_n log p_n), n = 1 to 4, times the brevity penalty
min(1, exp(1 - r / c)). p_n is the share of the candidate's n-grams that a reference has
too, each counted at most as often as in the reference that has it most; Papineni et al.
2002, doi:10.3115/1073083.1073135. They differ in how they treat p_n = 0 and in the
reference length r.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from lm_jax.config import require
from lm_jax.evaluation.ngrams import ngram_hashes

MAX_ORDER = 4  # the longest n-gram
Matches = Num[np.ndarray, "4"]


class NgramCounts(NamedTuple):
    """Counts of each n-gram, n = 1 to 4, in each document.

    Attributes:
      order: n of each n-gram.
      grams: indices of the distinct n-grams of each document.
      counts: number of times that each document has each of these n-grams.
      num_words: number of words in each document.
    """

    order: Int[np.ndarray, " grams"]
    grams: list[np.ndarray]
    counts: list[np.ndarray]
    num_words: Int[np.ndarray, " documents"]

    @classmethod
    def of(cls, documents: Sequence[str]) -> "NgramCounts":
        """Counts the n-grams of every document."""
        orders, grams, document_of = [], [], []
        num_grams = 0
        for n in range(1, MAX_ORDER + 1):
            hashes, document = ngram_hashes(documents, n)
            distinct, gram = np.unique(hashes, return_inverse=True)
            orders.append(np.full(len(distinct), n))
            grams.append(gram + num_grams)
            document_of.append(document)
            num_grams += len(distinct)
        entries, counts = np.unique(
            np.concatenate(document_of) * num_grams + np.concatenate(grams),
            return_counts=True,
        )
        ends = np.searchsorted(entries, np.arange(1, len(documents)) * num_grams)
        return cls(
            order=np.concatenate(orders),
            grams=np.split(entries % max(num_grams, 1), ends),
            counts=np.split(counts, ends),
            num_words=np.bincount(document_of[0], minlength=len(documents)),
        )


def plain_bleu(
    matches: Matches, num_words: int, lengths: Int[np.ndarray, " references"]
) -> float:
    """BLEU of arXiv:2603.22075: 0 if a p_n is 0; r is the mean reference length."""
    if num_words < MAX_ORDER or not matches.all():
        return 0.0
    precisions = matches / (num_words - np.arange(MAX_ORDER))
    brevity = min(0.0, 1.0 - float(lengths.mean()) / num_words)
    return float(np.exp(np.log(precisions).mean() + brevity))


def smoothed_bleu(
    matches: Matches, num_words: int, lengths: Int[np.ndarray, " references"]
) -> float:
    """sacrebleu's `sentence_bleu`, in [0, 1]: above 0 wherever one word matches.

    The i-th p_n that is zero counts as 2^-i matches, orders longer than the candidate
    are left out, and r is the length nearest to the candidate's, the shorter of two;
    Post 2018, arXiv:1804.08771; Chen and Cherry 2014, doi:10.3115/v1/W14-3346.
    """
    if not matches.any():
        return 0.0
    log_p, share = [], 1.0
    for n in range(min(MAX_ORDER, num_words)):
        if not matches[n]:
            share /= 2.0
        log_p.append(np.log((matches[n] or share) / (num_words - n)))
    away = np.abs(lengths - num_words)
    nearest = int(lengths[away == away.min()].min())
    return float(np.exp(np.mean(log_p) + min(0.0, 1.0 - nearest / num_words)))


def candidate_bleus(
    documents: Sequence[str],
    seed: int = 0,
    num_candidates: int = 200,
    num_references: int = 50,
    bleu: Callable[..., float] = plain_bleu,
) -> Float[np.ndarray, " candidates"]:
    """BLEU of random documents, each against random other documents.

    If there are fewer documents than candidates or references, all are used.

    Raises:
      ValueError: there are fewer than two documents.
    """
    require(
        len(documents) >= 2,
        f"the diversity of {len(documents)} documents: at least 2 are needed, "
        "generate more samples",
    )
    rng = np.random.default_rng(seed)
    counts = NgramCounts.of(documents)
    num_documents = len(documents)
    candidates = rng.permutation(num_documents)[:num_candidates].tolist()
    best = np.zeros(len(counts.order), np.int64)  # largest count in any reference
    scores = []
    for candidate in candidates:
        others = rng.permutation(num_documents - 1)[:num_references]
        references = others + (others >= candidate)  # leaves the candidate out
        matches = _matches(counts, candidate, references, best)
        num_words = int(counts.num_words[candidate])
        scores.append(bleu(matches, num_words, counts.num_words[references]))
    return np.array(scores)


def _matches(
    counts: NgramCounts,
    candidate: int,
    references: Int[np.ndarray, " references"],
    best: Int[np.ndarray, " grams"],
) -> Matches:
    """Matched n-grams of the candidate, for each n; `best` is an all-zero buffer."""
    seen = np.concatenate([counts.grams[reference] for reference in references])
    often = np.concatenate([counts.counts[reference] for reference in references])
    np.maximum.at(best, seen, often)
    own = counts.grams[candidate]
    matches = np.bincount(
        counts.order[own],
        weights=np.minimum(counts.counts[candidate], best[own]),
        minlength=MAX_ORDER + 1,
    )[1:]
    best[seen] = 0
    return matches
