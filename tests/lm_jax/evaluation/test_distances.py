"""Distances and counts of labels: against scipy, enumeration and the sources' law."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from lm_jax.data import storyworld
from lm_jax.evaluation.distances import (
    JENSEN_SHANNON,
    TOTAL_VARIATION,
    distance,
    sampling_floor,
)
from lm_jax.evaluation.intervals import jackknife_interval
from lm_jax.evaluation.ngrams import opening
from lm_jax.evaluation.openings import openings_by_length
from lm_jax.evaluation.richness import (
    num_distinct,
    num_singletons,
    rarefaction,
)

P = np.array([0.5, 0.2, 0.1, 0.08, 0.05, 0.04, 0.03])
KINDS = [TOTAL_VARIATION, JENSEN_SHANNON]


def draw(seed, num_labels=200, p=P):
    return np.random.default_rng(seed).choice(len(p), num_labels, p=p).tolist()


def test_distances_by_hand_and_by_scipy():
    """Half of |1/2 - 1/4| + |1/4 - 0| + |1/4 - 3/4|; scipy has the other."""
    labels, others = ["a", "a", "b", "c"], ["a", "c", "c", "c"]
    assert distance(TOTAL_VARIATION, labels, others).value == 0.5
    expected = jensenshannon([2, 1, 1], [1, 0, 3], base=2)
    np.testing.assert_allclose(distance(JENSEN_SHANNON, labels, others).value, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_extremes(kind):
    """0 for equal shares, whatever the sizes; 1 where no label is common."""
    assert distance(kind, ["a", "b"], ["a", "b"] * 3).value == 0.0
    assert distance(kind, ["a"], ["b"]).value == pytest.approx(1.0)
    assert sampling_floor(kind, ["a"] * 9, 3).value == 0.0
    assert sampling_floor(kind, ["a"], 3) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_jackknife_is_that_of_removing_labels(kind):
    """The closed form and the slow way give one interval."""
    labels, others = draw(0, 25), draw(1, 60, P[::-1])
    without = [
        distance(kind, labels[:i] + labels[i + 1 :], others).value for i in range(25)
    ]
    value, *_ = found = distance(kind, labels, others)
    np.testing.assert_allclose(found, jackknife_interval(value, np.array(without)))


def test_rarefaction_is_the_mean_over_all_subsets():
    """Hurlbert's formula against every choice of 3 of 7 items."""
    reference = list("aaabbcd")
    subsets = list(itertools.combinations(reference, 3))
    expected = np.mean([len(set(subset)) for subset in subsets])
    value, low, high = rarefaction(reference, 3)
    np.testing.assert_allclose(value, expected)
    assert low <= value <= high
    assert rarefaction(reference, 7) == (4.0, 4.0, 4.0)
    with pytest.raises(ValueError, match="more than the 7 labels"):
        rarefaction(reference, 8)


def test_counts_by_hand_and_by_removing_labels():
    """a 3, b 2, c 1, d 1; their jackknife in closed form."""
    labels = list("aaabbcd")
    assert num_distinct(labels).value == 4.0
    assert num_singletons(labels).value == 2.0
    for measure in (num_distinct, num_singletons):
        without = [measure(labels[:i] + labels[i + 1 :]).value for i in range(7)]
        value, *_ = found = measure(labels)
        np.testing.assert_allclose(found, jackknife_interval(value, np.array(without)))


@pytest.mark.parametrize("kind", KINDS)
def test_data_against_data_is_not_resolved_and_sharper_sampling_is(kind):
    """Samples of the source lie above the floor 1 time in 40; at temperature 0.5
    nearly always."""
    reference, sharp = draw(999, 4_000), P**2 / (P**2).sum()
    high = sampling_floor(kind, reference, 200, 400).high
    trials = range(120)
    false = np.mean([distance(kind, draw(i), reference).value > high for i in trials])
    true = np.mean(
        [distance(kind, draw(i, p=sharp), reference).value > high for i in trials]
    )
    assert false <= 0.08
    assert true >= 0.95


def test_the_grammars_own_stories_lie_within_the_floor():
    """Storyworld against storyworld is not resolved; half of its openings alone is."""
    reference = storyworld.generate(1, 3_000)
    own = storyworld.generate(2, 150)
    once = [story for story in storyworld.generate(3, 300) if story.startswith("Once")]
    for stories, is_above in ((own, False), (once[:150], True)):
        table = openings_by_length(stories, reference, num_resamples=300)
        for row in table.values():
            for name in ("total_variation", "jensen_shannon"):
                assert (row[name].value > row[f"{name}_floor"].high) == is_above
    low, high = table["5"]["rarefaction"][1:]
    assert low < len({opening(story) for story in own}) < high


def test_openings_of_every_length_have_every_measure():
    """Short and empty stories count as they are; without a reference, no distance."""
    stories = ["Once upon a time there was", "once upon a mat", "One", "", "Żółw 龙 é"]
    table = openings_by_length(stories, stories * 4, num_resamples=20)
    assert list(table) == ["1", "2", "3", "4", "5"]
    for row in table.values():
        assert row["total_variation"].value == 0.0
        assert row["distinct"].value >= row["singletons"].value
        assert np.isfinite(np.array(list(row.values()))).all()
    assert table["1"]["distinct"].value == 4.0
    assert table["1"]["share_of_commonest"].value == 0.4
    assert table["5"]["distinct"].value == table["5"]["singletons"].value == 5.0
    assert "jensen_shannon" not in openings_by_length(stories)["1"]
    value, *ends = openings_by_length(["a"])["5"]["entropy"]
    assert value == 0.0 and np.isnan(ends).all()
