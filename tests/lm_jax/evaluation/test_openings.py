"""How stories begin: by hand, and against a source whose law is known."""

import numpy as np
import pytest

from lm_jax.evaluation.openings import (
    opening_distance,
    opening_entropy,
    opening_shares,
    openings,
    share_of_commonest,
)

STORIES = ["Once upon a time there was", "once upon a time there lived", "Once more"]
STORIES += ["One day", ""]
P = np.array([0.6, 0.2, 0.1, 0.06, 0.04])


def draw(seed, num_stories=100, p=P):
    """Stories that begin with one of five words, with probabilities p."""
    rng = np.random.default_rng(seed)
    return [f"w{word} and so on" for word in rng.choice(len(p), num_stories, p=p)]


def test_shares_by_hand():
    """Case does not matter; short stories are their own opening; ties by text."""
    assert opening_shares(STORIES, n=1) == [("once", 0.6), ("", 0.2), ("one", 0.2)]
    assert opening_shares(STORIES, top=2) == [
        ("once upon a time there", 0.4),
        ("", 0.2),
    ]
    assert share_of_commonest(STORIES, 1).value == 0.6
    assert share_of_commonest(STORIES, 5).value == 0.4


def test_entropy_by_hand():
    """-0.6 log 0.6 - 2 * 0.2 log 0.2 for the first words."""
    expected = -0.6 * np.log(0.6) - 0.4 * np.log(0.2)
    np.testing.assert_allclose(opening_entropy(STORIES, 1).value, expected)


def test_distance_by_hand():
    """Once .6, one .2, "" .2 against once .5, a .5: half of .1 + .5 + .2 + .2."""
    reference = ["Once upon", "A cat"]
    np.testing.assert_allclose(opening_distance(STORIES, reference).value, 0.5)
    assert opening_distance(STORIES, STORIES).value == 0.0
    assert opening_distance(["x y", "z"], STORIES).value == 1.0


def test_extremes():
    """All the same: share 1 and entropy 0. All different: 1 / n and log n."""
    table = openings(["Once upon a time there was"] * 9, STORIES)
    assert table["share_of_commonest_first_word"].value == 1.0
    assert table["share_of_commonest_opening"].high == 1.0
    assert table["share_of_commonest_opening"].low < 0.8  # nine stories prove little
    assert table["first_word_entropy"] == (0.0, 0.0, 0.0)
    assert table["opening_entropy"].value == 0.0
    table = openings([f"w{i}" for i in range(9)])
    assert table["share_of_commonest_first_word"].value == 1 / 9
    np.testing.assert_allclose(table["first_word_entropy"].value, np.log(9))
    assert "opening_distance" not in table


def test_order_of_stories_does_not_matter():
    """A permutation leaves the whole table."""
    stories, reference = draw(0), draw(1)
    table, reverse = openings(stories, reference), openings(stories[::-1], reference)
    for name, estimate in table.items():
        np.testing.assert_allclose(reverse[name], estimate, err_msg=name)


def brute_force(statistic, stories):
    """1.96 standard errors of the jackknife, one story removed at a time."""
    without = [statistic(stories[:i] + stories[i + 1 :]) for i in range(len(stories))]
    return 1.959964 * np.sqrt((len(stories) - 1) * np.var(without))


@pytest.mark.parametrize("name", ["entropy", "distance"])
def test_closed_forms_of_the_jackknife(name):
    """Leaving each story out by formula or by hand gives one interval."""
    reference = draw(5, p=P[::-1])
    statistic = {
        "entropy": lambda stories: opening_entropy(stories, 1),
        "distance": lambda stories: opening_distance(stories, reference),
    }[name]
    value, low, high = statistic(draw(4, 40))
    spread = brute_force(lambda stories: statistic(stories).value, draw(4, 40))
    np.testing.assert_allclose([value - low, high - value], spread, rtol=1e-5)


def test_intervals_cover_what_other_samples_give():
    """Of 120 samples of one source, 95% have the mean of all in their interval."""
    reference = draw(10_000, p=P[[1, 0, 2, 3, 4]])
    tables = [openings(draw(seed), reference) for seed in range(120)]
    for name in tables[0]:
        value, low, high = np.array([table[name] for table in tables]).T
        found = np.mean((low <= value.mean()) & (value.mean() <= high))
        assert 0.90 <= found <= 0.995, name


def test_no_stories_are_refused():
    """The message says what to pass."""
    with pytest.raises(ValueError, match="at least one document"):
        opening_shares([])
