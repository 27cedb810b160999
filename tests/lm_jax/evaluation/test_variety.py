"""Variety at equal numbers of words: by hand, against scipy, and at the edges."""

import zlib

import numpy as np
import pytest
from fake_models import random_stories
from scipy import stats

from lm_jax.evaluation.intervals import jackknife_interval
from lm_jax.evaluation.variety import (
    compression_ratio,
    first_words,
    ngram_entropy,
    num_words,
    repetition,
    variety,
)

STORIES = ["a b a b a b", "c d e f", "x", ""]
ODD = {
    "empty": ["", ""],
    "one word": ["a", "b"],
    "non-ASCII": ["Żółw 龙 naïve 🙂", "été \ud800 мир"],
    "alike": ["one day a cat"] * 3,
}


def test_sets_are_cut_to_equal_numbers_of_words():
    """Whole stories, then a part of one; never more words than there are."""
    assert num_words(STORIES) == 11
    assert first_words(STORIES, 8) == ["a b a b a b", "c d"]
    assert first_words(STORIES, 6) == ["a b a b a b"]
    assert first_words(STORIES, 0) == []
    assert first_words(STORIES, 99) == STORIES
    for limit in range(12):
        assert num_words(first_words(STORIES, limit)) == limit


def test_entropy_is_that_of_scipy():
    """a 3, b 3 and five others once; ab 3, ba 2, cd, de, ef once."""
    for n, counts in ((1, [3, 3, 1, 1, 1, 1, 1]), (2, [3, 2, 1, 1, 1])):
        expected = stats.entropy(counts)
        np.testing.assert_allclose(ngram_entropy(STORIES, n).value, expected)
    assert ngram_entropy(["a", "b"], 4).value == 0.0


def test_entropy_jackknife_is_that_of_removing_stories():
    """The closed form and the slow way give one interval."""
    stories = random_stories(30, 8, vocabulary_size=12, power=1.0)
    without = [
        ngram_entropy(stories[:i] + stories[i + 1 :], 2).value for i in range(30)
    ]
    value, *_ = found = ngram_entropy(stories, 2)
    np.testing.assert_allclose(found, jackknife_interval(value, np.array(without)))


def test_repetition_by_hand():
    """Bigrams ab ba ab ba ab: 2 of 5 are distinct; the other stories repeat nothing."""
    assert np.isclose(repetition(STORIES, 2).value, (3 / 5) / 4)
    assert repetition(["a b c d a b c d"], 4).value == 1 - 4 / 5
    # what two stories share is no repetition within a story
    assert repetition(["a b c d", "a b c d"], 4).value == 0.0


def test_compression_is_that_of_zlib():
    """Copies compress, and no text has no ratio but one."""
    text = "\n".join(STORIES).encode()
    expected = len(text) / len(zlib.compress(text, 9))
    np.testing.assert_allclose(compression_ratio(STORIES).value, expected)
    once, often = (["the cat sat on the mat"] * n for n in (1, 50))
    assert compression_ratio(often).value > 5 * compression_ratio(once).value
    assert compression_ratio([""]).value == 1.0


@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_text_has_defined_values(name):
    """Every value and interval is a finite number, and in order."""
    for value, low, high in variety(ODD[name], num_resamples=10).values():
        assert np.isfinite([value, low, high]).all()
        assert low <= value + 1e-12 and value <= high + 1e-12


def test_longer_stories_are_no_more_varied_at_equal_words():
    """One source, stories of 10 and of 40 words: the vocabulary agrees once cut."""
    short = random_stories(200, 10, vocabulary_size=500, power=1.0, seed=1)
    long = random_stories(200, 40, vocabulary_size=500, power=1.0, seed=2)
    full, cut = variety(long), variety(first_words(long, num_words(short)))
    value, low, high = variety(short)["vocabulary"]
    assert low < cut["vocabulary"].value < high < full["vocabulary"].value


def test_sharper_sampling_is_less_varied_and_resolved():
    """Squared and renormalised probabilities, as at temperature 0.5."""
    plain = random_stories(100, 40, vocabulary_size=300, power=1.0, seed=1)
    sharp = random_stories(100, 40, vocabulary_size=300, power=2.0, seed=2)
    a, b = variety(plain), variety(sharp)
    for name in ("distinct_1", "vocabulary", "word_entropy", "fourgram_entropy"):
        assert b[name].high < a[name].low, name
    for name in ("smoothed_self_bleu", "repetition_4", "compression_ratio"):
        assert a[name].high < b[name].low, name
