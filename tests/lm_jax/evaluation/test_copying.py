"""The longest copied run: by hand, by brute force, and at the edges."""

import numpy as np
from fake_models import random_stories

from lm_jax.evaluation.copying import WordIds, longest_run, longest_runs

TRAINING = ["Tom had a big red ball.", "Mia saw a big red cat and ran", ""]


def brute_force(story, training):
    """The most words in a row that stand so in one training story, by trying all."""
    own = story.lower().split()
    texts = [f" {' '.join(text.lower().split())} " for text in training]
    return max(
        (
            end - begin
            for begin in range(len(own))
            for end in range(begin + 1, len(own) + 1)
            if any(f" {' '.join(own[begin:end])} " in text for text in texts)
        ),
        default=0,
    )


def test_runs_by_hand():
    """Case does not matter, punctuation does, and no run crosses a story's end."""
    stories = [
        "the BIG red ball. fell",  # big red ball.
        "mia saw a big red ball",  # mia saw a big red
        "ball. mia",  # one word of each: the end of a story stands between
        "zog",
        "",
        TRAINING[1],
    ]
    runs = longest_runs(stories, WordIds.of(TRAINING))
    assert runs.tolist() == [3, 5, 1, 0, 0, 8]


def test_runs_are_those_of_brute_force():
    """On random text of few words, where runs of all lengths occur."""
    training = random_stories(20, 30, vocabulary_size=4, seed=0)
    stories = random_stories(15, 12, vocabulary_size=5, seed=1) + training[:2]
    expected = [brute_force(story, training) for story in stories]
    assert len(set(expected)) > 3
    assert longest_runs(stories, WordIds.of(training)).tolist() == expected


def test_nothing_to_copy_from():
    """No training text, or no stories' words: 0 everywhere."""
    assert longest_runs(["a b", ""], WordIds.of([])).tolist() == [0, 0]
    assert longest_runs(["", ""], WordIds.of(TRAINING)).tolist() == [0, 0]
    assert longest_runs(["🙂 龙"], WordIds.of(["龙 🙂"])).tolist() == [1]


def test_table_by_hand():
    """Means over stories, in words and as shares of the story."""
    table = longest_run(["a big red dog", ""], WordIds.of(TRAINING), 10)
    assert table["longest_copied_run"].value == 1.5
    assert table["longest_copied_share"].value == (3 / 4) / 2


def test_copies_of_training_text_are_whole():
    """A memorised story is one run, as long as it is."""
    training = random_stories(50, 40, vocabulary_size=9)
    runs = longest_runs(training[:5], WordIds.of(training))
    np.testing.assert_array_equal(runs, 40)
