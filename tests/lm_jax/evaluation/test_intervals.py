"""Intervals cover what they should, as often as they should."""

import numpy as np
import pytest

from lm_jax.evaluation.intervals import (
    NOTHING,
    Z_95,
    Estimate,
    as_json,
    bootstrap,
    difference,
    index_bootstrap,
    jackknife_interval,
    mean_interval,
    paired_difference,
    ratio_interval,
    share_interval,
    t_interval,
)

NUM_TRIALS = 200


def coverage(interval, truth):
    """How often interval(rng) holds the truth."""
    hits = 0
    for trial in range(NUM_TRIALS):
        _, low, high = interval(np.random.default_rng(trial))
        hits += low <= truth <= high
    return hits / NUM_TRIALS


def test_jackknife_of_a_mean_is_its_standard_error():
    """For the mean, the jackknife variance is s^2 / n, exactly."""
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    without = (x.sum() - x) / 4
    value, low, high = jackknife_interval(float(x.mean()), without)
    error = x.std(ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(
        [low, high], [max(value - Z_95 * error, 0.0), 6.2 + Z_95 * error]
    )


def test_wilson_interval_by_hand():
    """0 of 10: the upper end is z^2 / (n + z^2); 10 of 10 is its mirror image."""
    end = Z_95**2 / (10 + Z_95**2)
    np.testing.assert_allclose(share_interval(np.zeros(10, bool)), [0.0, 0.0, end])
    np.testing.assert_allclose(share_interval(np.ones(10, bool)), [1.0, 1.0 - end, 1.0])


@pytest.mark.parametrize("share", [0.03, 0.5, 0.97])
def test_share_interval_covers_the_share(share):
    """95% of samples of 200 stories give an interval that holds the true share."""
    found = coverage(lambda rng: share_interval(rng.random(200) < share), share)
    assert 0.92 <= found <= 0.99


def test_mean_interval_covers_the_mean():
    """The same for the mean of a skewed quantity."""
    found = coverage(
        lambda rng: mean_interval(rng.gamma(4.0, size=100), num_resamples=200), 4.0
    )
    assert 0.90 <= found <= 0.99


def test_ratio_interval_covers_the_ratio_of_sums():
    """Numerators that grow with denominators: a ratio of sums, no mean of ratios."""

    def interval(rng):
        length = rng.integers(5, 200, 150)
        share = np.where(length > 100, 0.8, 0.2)
        return ratio_interval(rng.binomial(length, share), length, 100)

    lengths = np.arange(5, 200)
    truth = (lengths * np.where(lengths > 100, 0.8, 0.2)).sum() / lengths.sum()
    assert 0.90 <= coverage(interval, truth) <= 0.99


def test_ratio_of_nothing_is_nothing():
    """No n-gram at all: there is no share of known ones, and it is not 0."""
    assert np.isnan(ratio_interval(np.zeros(3), np.zeros(3), 10)).all()
    assert as_json(NOTHING) == {"value": None, "low": None, "high": None}
    # resamples of only empty stories say nothing of the others
    found = ratio_interval(np.array([2.0, 0.0, 0.0]), np.array([4.0, 0.0, 0.0]), 200)
    assert found == (0.5, 0.5, 0.5)


def test_pairs_cancel_what_they_share():
    """Windows that are hard for both do not widen the interval of the difference."""
    rng = np.random.default_rng(0)
    window = rng.normal(0.0, 10.0, 400)
    one, other = window + rng.normal(0.5, 0.1, 400), window
    value, low, high = paired_difference(one, other)
    assert low < value < high
    assert high - low < 0.05
    np.testing.assert_allclose(value, one.mean() - other.mean())
    with pytest.raises(ValueError, match="same windows"):
        paired_difference(one, other[:-1])


def test_bootstrap_agrees_with_the_array_form():
    """The general bootstrap and the one of means draw the same resamples."""
    stories = ["a b", "c", "d e f", "g h i j", ""]
    lengths = np.array([2, 1, 3, 4, 0])
    general = bootstrap(
        lambda texts: sum(len(text.split()) for text in texts) / len(texts), stories
    )
    np.testing.assert_allclose(general, mean_interval(lengths))


def test_bootstrap_is_wrong_for_distinct_counts_and_the_jackknife_is_right():
    """Stories with one word each of 300 with p_k ~ 1/k; E[distinct words] is known."""
    p = 1.0 / np.arange(1, 301)
    p /= p.sum()
    truth = float((1.0 - (1.0 - p) ** 200).sum())

    def draw(rng):
        return [str(word) for word in rng.choice(300, 200, p=p)]

    def jackknife(rng):
        words, counts = np.unique(draw(rng), return_counts=True)
        without = np.repeat(len(words) - (counts == 1), counts)
        return jackknife_interval(float(len(words)), without)

    def percentile(rng):
        return bootstrap(lambda texts: float(len(set(texts))), draw(rng), 50)

    assert 0.92 <= coverage(jackknife, truth) <= 1.0
    assert coverage(percentile, truth) <= 0.05


def test_too_few_stories_are_refused():
    """The message says how many there are and what to do."""
    with pytest.raises(ValueError, match="0 documents"):
        mean_interval(np.zeros(0))
    for found in (jackknife_interval(1.0, np.ones(1)), mean_interval(np.ones(1))):
        assert found.value == 1.0 and np.isnan([found.low, found.high]).all()


def test_t_interval_by_hand():
    """1, 2, 3: 2 +- 4.303 / sqrt(3); one seed says nothing of others."""
    spread = 4.302653 / np.sqrt(3)
    np.testing.assert_allclose(
        t_interval(np.array([1.0, 2.0, 3.0])), [2.0, 2.0 - spread, 2.0 + spread], 1e-6
    )
    assert t_interval(np.array([5.0])) == (5.0, -np.inf, np.inf)


def test_t_interval_covers_with_three_seeds():
    """Where 1.96 standard errors would hold only 81%."""
    found = coverage(lambda rng: t_interval(rng.normal(1.0, 2.0, 3)), 1.0)
    assert 0.91 <= found <= 0.99


def test_difference_of_shares_covers():
    """Wilson's intervals of 4% and 10%, of unequal numbers of stories, combined."""

    def interval(rng):
        one, other = rng.random(150) < 0.04, rng.random(80) < 0.10
        return difference(share_interval(one), share_interval(other))

    assert 0.92 <= coverage(interval, -0.06) <= 0.985


def test_difference_by_hand():
    """5 [3, 6] - 1 [0, 1.5]: below by hypot(2, 0.5), above by hypot(1, 1)."""
    found = difference(Estimate(5.0, 3.0, 6.0), Estimate(1.0, 0.0, 1.5))
    np.testing.assert_allclose(found, [4.0, 4.0 - 4.25**0.5, 4.0 + 2**0.5])


def test_index_bootstrap_is_that_of_the_mean():
    """A function of indices and one of values draw the same resamples."""
    x = np.array([1.0, 4.0, 2.0, 8.0])
    found = index_bootstrap(lambda index: float(x[index].mean()), 4)
    np.testing.assert_allclose(found, mean_interval(x))
