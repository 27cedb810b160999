"""Variety metrics at equal numbers of words, so that length does not affect them.

Longer documents have more distinct words and fewer distinct n-grams a word. So every
set is first cut to the same number of words, `first_words(documents, W)`: tables of
`variety` are comparable if W is the same.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from lm_jax.evaluation.bleu import MAX_ORDER, candidate_bleus, smoothed_bleu
from lm_jax.evaluation.diversity import distinct_estimate, vocabulary_estimate
from lm_jax.evaluation.intervals import Estimate, jackknife_interval, mean_interval
from lm_jax.evaluation.ngrams import ngram_hashes, words

NUM_GROUPS = 20  # groups of documents in the jackknife of the compression ratio


def num_words(documents: Sequence[str]) -> int:
    """Words in all documents together."""
    return sum(len(words(document)) for document in documents)


def first_words(documents: Sequence[str], limit: int) -> list[str]:
    """The first documents with `limit` words in all; the last one is cut to fit.

    >>> first_words(["A cat ran.", "Tom saw it.", "The end."], 5)
    ['A cat ran.', 'tom saw']
    """
    kept, left = [], limit
    for document in documents:
        if left <= 0:
            break
        own = words(document)
        kept.append(document if len(own) <= left else " ".join(own[:left]))
        left -= len(own)
    return kept


def ngram_entropy(documents: Sequence[str], n: int) -> Estimate:
    """-sum_g p_g log p_g over the n-grams g of all documents, in nats; 0 if none.

    Shannon 1948. Higher is more varied. The entropy of a sample is below that of its
    source, and further below for fewer words.
    """
    hashes, document = ngram_hashes(documents, n)
    distinct, gram, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    total, terms = len(hashes), _count_log_count(counts)
    entry, own = np.unique(document * max(len(distinct), 1) + gram, return_counts=True)
    entry_document, entry_gram = np.divmod(entry, max(len(distinct), 1))
    change = _count_log_count(counts[entry_gram] - own) - terms[entry_gram]
    without = terms.sum() + np.bincount(
        entry_document, change, minlength=len(documents)
    )
    left = total - np.bincount(document, minlength=len(documents))
    value = np.log(max(total, 1)) - terms.sum() / max(total, 1)
    each = np.log(np.maximum(left, 1)) - without / np.maximum(left, 1)
    return jackknife_interval(max(float(value), 0.0), np.maximum(each, 0.0))


def repetition(
    documents: Sequence[str], n: int = 4, num_resamples: int = 1_000, seed: int = 0
) -> Estimate:
    """seq-rep-n: mean over documents of 1 - distinct n-grams / n-grams in the document.

    Welleck et al. 2020, arXiv:1908.04319, section 6. 0 if no document repeats an
    n-gram; a document of fewer than n words counts as 0.
    """
    hashes, document = ngram_hashes(documents, n)
    total = np.bincount(document, minlength=len(documents))
    order = np.lexsort((hashes, document))
    hashes, document = hashes[order], document[order]
    is_new = np.ones(len(hashes), bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (document[1:] != document[:-1])
    distinct = np.bincount(document[is_new], minlength=len(documents))
    share = np.where(total > 0, 1.0 - distinct / np.maximum(total, 1), 0.0)
    return mean_interval(share, num_resamples, seed)


def compression_ratio(documents: Sequence[str]) -> Estimate:
    """Bytes / bytes after zlib, of all documents in one text; lower is more varied.

    Shaib et al. 2024, arXiv:2403.00553. zlib looks back 32 kB, so it misses repetitions
    at a greater distance. 1 if there is no text. The jackknife interval leaves out one
    of 20 groups of documents at a time.
    """
    num_groups = min(NUM_GROUPS, len(documents))
    without = [
        _compression([s for i, s in enumerate(documents) if i % num_groups != group])
        for group in range(num_groups)
    ]
    return jackknife_interval(_compression(documents), np.array(without))


def variety(
    documents: Sequence[str], *, num_resamples: int = 1_000, seed: int = 0
) -> dict[str, Estimate]:
    """Every measure that depends on length, by name, with its 95% interval.

    Empty if there are no documents.
    """
    if not documents:
        return {}
    table = {
        f"distinct_{n}": distinct_estimate(documents, n)
        for n in range(1, MAX_ORDER + 1)
    }
    table["vocabulary"] = vocabulary_estimate(documents)
    table["word_entropy"] = ngram_entropy(documents, 1)
    table["bigram_entropy"] = ngram_entropy(documents, 2)
    table["fourgram_entropy"] = ngram_entropy(documents, 4)
    if len(documents) > 1:  # Self-BLEU needs other documents
        scores = candidate_bleus(documents, seed, bleu=smoothed_bleu)
        table["smoothed_self_bleu"] = mean_interval(scores, num_resamples, seed)
    table["repetition_4"] = repetition(documents, 4, num_resamples, seed)
    table["compression_ratio"] = compression_ratio(documents)
    return table


def _compression(documents: Sequence[str]) -> float:
    text = "\n".join(documents).encode("utf-8", "surrogatepass")
    return len(text) / len(zlib.compress(text, 9)) if text else 1.0


def _count_log_count(counts: np.ndarray) -> np.ndarray:
    """c log c, which is 0 at c = 0."""
    return counts * np.log(np.maximum(counts, 1))
