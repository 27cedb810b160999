"""The best step sizes, and the NELBO that a profile predicts, against enumeration."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Source, biased_logits

from experiments.step_sizes import best_sizes, predicted, profile, sizes_of, smooth
from lm_jax.config import SampleConfig
from lm_jax.evaluation.calibration import Predictions
from lm_jax.types import MASK, NUM_NON_TEXT
from mdlm_jax.samplers.base import split_logits_fn
from mdlm_jax.sampling import sample

SOURCE = Source(num_symbols=3, length=4)


def compositions(total, parts):
    """All ways to write a number as a sum of positive parts, in order."""
    for cuts in itertools.combinations(range(1, total), parts - 1):
        yield np.diff([0, *cuts, total]).tolist()


def log_q(z):
    """log q(x_l | z) of a wrong network, which is not told the time."""
    logits = biased_logits({}, jnp.asarray(z), jnp.full(len(z), 0.5))
    is_text = jnp.arange(logits.shape[-1]) >= NUM_NON_TEXT
    return np.asarray(jax.nn.log_softmax(jnp.where(is_text, logits, -jnp.inf)))


def nats_of(order, sizes):
    """-E log W / L of steps that unmask these positions, over the source's texts."""
    z, total = np.full_like(SOURCE.x, MASK), 0.0
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        at = list(order[end - size : end])
        log_p = log_q(z)[:, at]
        chosen = np.take_along_axis(log_p, SOURCE.x[:, at, None], axis=2)[..., 0]
        total -= SOURCE.p @ chosen.sum(axis=1)
        z[:, at] = SOURCE.x[:, at]
    return total / 4


def exact_profile():
    """g(v): the mean over texts, visible sets of v tokens and hidden positions."""
    g = []
    for v in range(4):
        found = []
        for visible in itertools.combinations(range(4), v):
            z = np.full_like(SOURCE.x, MASK)
            z[:, visible] = SOURCE.x[:, visible]
            hidden = [at for at in range(4) if at not in visible]
            log_p = log_q(z)[:, hidden]
            chosen = np.take_along_axis(log_p, SOURCE.x[:, hidden, None], axis=2)
            found.append(-SOURCE.p @ chosen[..., 0].mean(axis=1))
        g.append(np.mean(found))
    return np.array(g)


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [2, 2], [1, 3], [3, 1], [4]])
def test_the_profile_predicts_the_nelbo_of_random_positions(sizes):
    """The mean over all orders of a wrong network's -log W."""
    orders = itertools.permutations(range(4))
    nelbo = np.mean([nats_of(order, sizes) for order in orders])
    assert predicted(exact_profile(), sizes) == pytest.approx(nelbo, rel=1e-5)


@pytest.mark.parametrize("num_steps", range(1, 8))
def test_no_other_sizes_are_better(num_steps):
    """Against all compositions of 7 tokens, for profiles that fall and one that not."""
    rng = np.random.default_rng(num_steps)
    falling = np.sort(rng.exponential(size=(4, 7)), axis=1)[:, ::-1]
    for g in (*falling, rng.exponential(size=7)):
        found = best_sizes(g, num_steps)
        assert sum(found) == 7 and len(found) == num_steps and min(found) > 0
        least = min(predicted(g, sizes) for sizes in compositions(7, num_steps))
        assert predicted(g, found) == pytest.approx(least)


def test_a_profile_is_a_mean_over_predictions():
    """v = 0, 1 and 3 were drawn, and v = 2 lies between."""
    hidden = np.array([[4, 4, 3, 3, 1, 4]]) / 4.0
    nats = np.array([[3.0, 5.0, 7.0, 5.0, 1.0, 99.0]])
    weight = np.array([[1.0, 1.0, 4 / 3, 4 / 3, 4.0, 0.0]])  # the last is visible
    unused = np.zeros_like(nats)
    found = profile(Predictions(nats, unused, unused, weight, hidden, unused), 4)
    np.testing.assert_allclose(found, [4.0, 6.0, 3.5, 1.0])
    np.testing.assert_allclose(smooth(found), [5.0, 5.0, 3.5, 1.0])


def test_a_smooth_profile_is_nearer_to_the_truth_than_a_noisy_one():
    """And so are its sizes: with noise in g some steps look better than they are."""
    truth = 0.3 + 3.0 * np.exp(-np.arange(64) / 12.0)
    best = predicted(truth, best_sizes(truth, 8))
    losses = {"noisy": [], "smooth": []}
    for seed in range(20):
        noisy = truth + np.random.default_rng(seed).normal(scale=0.15, size=64)
        assert np.abs(smooth(noisy) - truth).mean() < np.abs(noisy - truth).mean()
        for name, g in (("noisy", noisy), ("smooth", smooth(noisy))):
            losses[name].append(predicted(truth, best_sizes(g, 8)) - best)
    assert np.mean(losses["smooth"]) < np.mean(losses["noisy"]) / 3


@pytest.mark.parametrize(
    "grid, sizes", [("linear", [4, 4, 4, 4]), ("1,2,4,9", [1, 2, 4, 9])]
)
def test_the_sizes_of_a_grid(grid, sizes):
    assert sizes_of(SampleConfig(num_steps=4, grid=grid), 16) == sizes


@pytest.mark.parametrize("grid, sizes", [("1,3", [1, 3]), ("2,2", [2, 2])])
def test_shuffled_has_the_nelbo_that_is_predicted(grid, sizes):
    """-E log W of the sampler itself, within five standard errors of 4,096 orders."""
    rows, repeats = np.tile(SOURCE.x, (64, 1)), 64
    cfg = SampleConfig(sampler="shuffled", num_steps=2, grid=grid)
    found = jax.jit(
        partial(sample, *split_logits_fn(biased_logits), shape=rows.shape, cfg=cfg)
    )({}, jax.random.key(0), truth=jnp.asarray(rows))
    nats = -np.asarray(found.log_p.sum(axis=1), np.float64).reshape(repeats, -1)
    per_repeat = nats @ SOURCE.p / 4
    error = per_repeat.std(ddof=1) / np.sqrt(repeats)
    assert abs(per_repeat.mean() - predicted(exact_profile(), sizes)) < 5 * error
    assert error < 0.02
