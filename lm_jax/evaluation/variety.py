"""Variety at equal numbers of words: what length cannot buy.

Longer stories hold more distinct words and fewer distinct n-grams a word. So every set
is cut to the same number of words, `first_words(stories, W)`, before anything is
counted that grows with length: tables of `variety` are comparable where W is the same.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from lm_jax.evaluation.bleu import MAX_ORDER, candidate_bleus, smoothed_bleu
from lm_jax.evaluation.diversity import distinct_estimate, vocabulary_estimate
from lm_jax.evaluation.intervals import Estimate, jackknife_interval, mean_interval
from lm_jax.evaluation.ngrams import ngram_hashes, words

NUM_GROUPS = 20  # of stories, for the grouped jackknife of the compression ratio


def num_words(stories: Sequence[str]) -> int:
    """Words in all stories together."""
    return sum(len(words(story)) for story in stories)


def first_words(stories: Sequence[str], limit: int) -> list[str]:
    """The first stories with `limit` words in all; the last one is cut to fit.

    >>> first_words(["A cat ran.", "Tom saw it.", "The end."], 5)
    ['A cat ran.', 'tom saw']
    """
    kept, left = [], limit
    for story in stories:
        if left <= 0:
            break
        own = words(story)
        kept.append(story if len(own) <= left else " ".join(own[:left]))
        left -= len(own)
    return kept


def ngram_entropy(stories: Sequence[str], n: int) -> Estimate:
    """-sum_g p_g log p_g over the n-grams g of all stories, in nats; 0 where none is.

    Shannon 1948. More is more varied. The sample's entropy lies below the source's, the
    further the fewer words there are.
    """
    hashes, story = ngram_hashes(stories, n)
    distinct, gram, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    total, terms = len(hashes), _count_log_count(counts)
    entry, own = np.unique(story * max(len(distinct), 1) + gram, return_counts=True)
    entry_story, entry_gram = np.divmod(entry, max(len(distinct), 1))
    change = _count_log_count(counts[entry_gram] - own) - terms[entry_gram]
    without = terms.sum() + np.bincount(entry_story, change, minlength=len(stories))
    left = total - np.bincount(story, minlength=len(stories))
    value = np.log(max(total, 1)) - terms.sum() / max(total, 1)
    each = np.log(np.maximum(left, 1)) - without / np.maximum(left, 1)
    return jackknife_interval(max(float(value), 0.0), np.maximum(each, 0.0))


def repetition(
    stories: Sequence[str], n: int = 4, num_resamples: int = 1_000, seed: int = 0
) -> Estimate:
    """seq-rep-n: 1 - distinct n-grams / n-grams within a story, averaged over stories.

    Welleck et al. 2020, arXiv:1908.04319, section 6. 0 where no story repeats itself;
    a story of fewer than n words repeats nothing.
    """
    hashes, story = ngram_hashes(stories, n)
    total = np.bincount(story, minlength=len(stories))
    order = np.lexsort((hashes, story))
    hashes, story = hashes[order], story[order]
    is_new = np.ones(len(hashes), bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (story[1:] != story[:-1])
    distinct = np.bincount(story[is_new], minlength=len(stories))
    share = np.where(total > 0, 1.0 - distinct / np.maximum(total, 1), 0.0)
    return mean_interval(share, num_resamples, seed)


def compression_ratio(stories: Sequence[str]) -> Estimate:
    """Bytes / bytes after zlib, of all stories in one text; less is more varied.

    Shaib et al. 2024, arXiv:2403.00553. zlib looks back 32 kB, so what repeats at a
    greater distance is not seen. 1 where there is no text. The interval leaves out one
    of 20 groups of stories at a time.
    """
    num_groups = min(NUM_GROUPS, len(stories))
    without = [
        _compression([s for i, s in enumerate(stories) if i % num_groups != group])
        for group in range(num_groups)
    ]
    return jackknife_interval(_compression(stories), np.array(without))


def variety(
    stories: Sequence[str], *, num_resamples: int = 1_000, seed: int = 0
) -> dict[str, Estimate]:
    """Every measure that depends on length, by name, with its 95% interval.

    None of them where there are no stories.
    """
    if not stories:
        return {}
    table = {
        f"distinct_{n}": distinct_estimate(stories, n) for n in range(1, MAX_ORDER + 1)
    }
    table["vocabulary"] = vocabulary_estimate(stories)
    table["word_entropy"] = ngram_entropy(stories, 1)
    table["bigram_entropy"] = ngram_entropy(stories, 2)
    table["fourgram_entropy"] = ngram_entropy(stories, 4)
    if len(stories) > 1:  # of which each has others
        scores = candidate_bleus(stories, seed, bleu=smoothed_bleu)
        table["smoothed_self_bleu"] = mean_interval(scores, num_resamples, seed)
    table["repetition_4"] = repetition(stories, 4, num_resamples, seed)
    table["compression_ratio"] = compression_ratio(stories)
    return table


def _compression(stories: Sequence[str]) -> float:
    text = "\n".join(stories).encode("utf-8", "surrogatepass")
    return len(text) / len(zlib.compress(text, 9)) if text else 1.0


def _count_log_count(counts: np.ndarray) -> np.ndarray:
    """c log c, which is 0 at c = 0."""
    return counts * np.log(np.maximum(counts, 1))
