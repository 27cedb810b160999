"""Two kinds of BLEU against NLTK and sacrebleu, and Self-BLEU's edges."""

import numpy as np
import pytest
from fake_models import random_stories

from lm_jax.evaluation.bleu import candidate_bleus, smoothed_bleu

# Lengths differ, and the shortest have no 4-gram: penalties and smoothing all occur.
STORIES = [
    *random_stories(12, 15, vocabulary_size=4),
    *random_stories(6, 9, vocabulary_size=5, seed=1),
    "w0 w1",
    "w3",
    "w0 w1 w2 w9",
]


def expected(sentence_bleu):
    """Each story against all others, whatever the order they are visited in."""
    return sorted(
        sentence_bleu(story, STORIES[:i] + STORIES[i + 1 :])
        for i, story in enumerate(STORIES)
    )


def test_smoothed_bleu_is_that_of_sacrebleu():
    """Sentence BLEU with its defaults, on text that is already split into words."""
    sacrebleu = pytest.importorskip("sacrebleu")

    def sentence_bleu(story, others):
        return sacrebleu.sentence_bleu(story, others, tokenize="none").score / 100

    found = candidate_bleus(STORIES, bleu=smoothed_bleu)
    assert 0.0 < min(found) < np.median(found) < max(found)
    np.testing.assert_allclose(sorted(found), expected(sentence_bleu), rtol=1e-9)


def test_plain_bleu_is_that_of_nltk_up_to_the_penalty():
    """Against references of one length the two reference lengths are the same."""
    nltk = pytest.importorskip("nltk.translate.bleu_score")
    stories = [*random_stories(12, 15, vocabulary_size=4), "w0 w1 w2 w3 w0 w1"]
    found = candidate_bleus(stories)
    split = [story.split() for story in stories]
    short = nltk.sentence_bleu(split[:-1], split[-1])
    assert short > 0.0 and np.isclose(found, short, rtol=1e-9).any()


def test_smoothing_by_hand():
    """`a b c d`, `a b x y`: 2/4, 1/3, and for zeros 1/2 of 1/2 and 1/4 of 1/1."""
    found = candidate_bleus(["a b c d", "a b x y"], bleu=smoothed_bleu)
    np.testing.assert_allclose(found, (2 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25)


def test_of_two_nearest_lengths_the_shorter_counts():
    """Four words between references of three and of five: no brevity penalty."""
    matches = np.array([4.0, 3.0, 2.0, 1.0])
    assert smoothed_bleu(matches, 4, np.array([3, 5])) == 1.0
    penalised = smoothed_bleu(matches, 4, np.array([2, 5]))
    np.testing.assert_allclose(penalised, np.exp(1 - 5 / 4))


def test_defined_where_nothing_matches():
    """Empty stories, single words and no common word: 0, and no warning."""
    assert candidate_bleus(["", "", "a"], bleu=smoothed_bleu).tolist() == [0, 0, 0]
    assert candidate_bleus(["a", "a"], bleu=smoothed_bleu).tolist() == [1, 1]
    assert candidate_bleus(["", "a"]).tolist() == [0, 0]
