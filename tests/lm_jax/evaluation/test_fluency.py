"""Shares of known words and n-grams: by hand and at their extremes."""

import math

import numpy as np
import pytest

from lm_jax.evaluation.fluency import (
    Reference,
    accepted_share,
    copied_ngram_share,
    fluency,
    known_word_share,
    ngram_set,
    seen_ngram_share,
    word_set,
)

TRAINING = [
    "Tom had a big red ball. He can't stop!",
    "Mia saw a big red ball and a cat.",
]


def test_words_are_known_without_their_punctuation():
    """Case and punctuation at the ends do not make a word new; letters do."""
    known = word_set(TRAINING)
    assert {"tom", "ball", "can't"} <= known
    stories = ['"BALL!" said tom', "Mia cant stop"]  # "said" and "cant" are new
    assert known_word_share(stories, known).value == 4 / 6
    assert np.isnan(known_word_share(["", "..."], known).value)


def test_seen_ngrams_by_hand():
    """tom had a big | had a big red | a big red cat: two of three were seen."""
    known = ngram_set(TRAINING, 4)
    assert known.dtype == np.uint64
    assert seen_ngram_share(["Tom had a big red cat"], known).value == 2 / 3
    assert np.isnan(seen_ngram_share(["Tom had a"], known).value)
    # no n-gram of the reference crosses the end of a story
    assert seen_ngram_share(["can't stop! mia saw"], known).value == 0.0


def test_ngrams_are_counted_over_all_stories():
    """A ratio of sums: 6 of 6 in one story and 0 of 1 in another are 6 of 7."""
    stories = [TRAINING[0], "one two three four"]
    assert seen_ngram_share(stories, ngram_set(TRAINING, 4)).value == 6 / 7


@pytest.mark.parametrize("n", [1, 4, 8])
def test_the_training_text_itself_is_all_seen(n):
    """Every n-gram of the reference is in it, and none is in an empty one."""
    share = seen_ngram_share(TRAINING, ngram_set(TRAINING, n), n)
    assert share == (1.0, 1.0, 1.0)
    assert seen_ngram_share(TRAINING, ngram_set([], n), n).value == 0.0


def test_copies_are_long():
    """Eight words in a row: a changed word breaks all eight that hold it."""
    known = ngram_set(TRAINING, 8)
    assert copied_ngram_share(TRAINING[1:], known).value == 1.0
    changed = "Mia saw a big blue ball and a cat."
    assert copied_ngram_share([changed], known).value == 0.0


def test_accepted_share_asks_the_grammar():
    """-inf is outside the language, any other number inside."""

    def log_prob(text):
        return -3.0 if text.startswith("once") else -math.inf

    value, low, high = accepted_share(["once a", "once b", "no", "once c"], log_prob)
    assert value == 0.75
    assert 0.0 < low < 0.75 < high < 1.0


def test_table_holds_what_can_be_measured():
    """Each yardstick adds its rows, by the names of the report."""
    stories = ["Tom had a big red ball and a cat.", "Zog zag"]
    assert fluency(stories) == {}
    table = fluency(
        stories,
        Reference.of(TRAINING),
        log_prob=lambda text: 0.0,
        is_finished=np.array([True, False]),
    )
    assert {name: estimate.value for name, estimate in table.items()} == {
        "accepted_share": 1.0,
        "known_word_share": 9 / 11,
        "seen_4gram_share": 1.0,
        "copied_8gram_share": 0.0,
        "longest_copied_run": 3.5,
        "longest_copied_share": 7 / 18,
        "finished_share": 0.5,
    }
    for value, low, high in table.values():
        assert low <= value <= high


def test_held_out_humans_are_known_but_not_copied(tinystories_dir):
    """Nearly every word of held-out text was seen, and few runs of eight words."""

    def read(name, num_stories):
        text = (tinystories_dir / name).read_text(encoding="utf-8")
        return text.split("<|endoftext|>")[:num_stories]

    table = fluency(read("valid.txt", 200), Reference.of(read("train.txt", 1_500)))
    assert table["known_word_share"].value > 0.98
    assert 0.1 < table["seen_4gram_share"].value < 0.6
    assert table["copied_8gram_share"].value < 0.1
