"""The likelihood of samplers, against enumeration with a network that is wrong."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampler_distributions import Table, assert_law, sampler
from scipy.special import logsumexp

from lm_jax.config import SampleConfig
from lm_jax.evaluation import sampler_likelihood
from lm_jax.language_model import Order
from lm_jax.types import EOS, MASK, NUM_NON_TEXT
from mdlm_jax import sampling
from mdlm_jax.samplers import base, ranked
from mdlm_jax.schedule import linear, polynomial

pytestmark = pytest.mark.usefixtures("fast_compilation")

LENGTH = 4


class WrongNetwork(Table):
    """Predictions at random, which no joint law has, and which depend on the time."""

    def __init__(self, seed=0):
        super().__init__(LENGTH, first=EOS, num_symbols=3, seed=seed)
        noise = np.random.default_rng(seed).normal(size=(2, *self.log_p_of.shape))
        self.log_p_of = np.where(np.isneginf(self.log_p_of), -np.inf, noise[0])
        self.log_p_of[..., :NUM_NON_TEXT] = 9.0
        self.slope = noise[1].astype(np.float32)

    def timed_logits(self, params, z_t, t):
        constant = super().timed_logits(params, z_t, t)
        if t is None:  # as AR's network
            return constant
        digit = jnp.where(z_t == MASK, 0, z_t - self.first + 1)
        place = self.base ** np.arange(z_t.shape[1])[::-1]
        slope = jnp.asarray(self.slope)[jnp.sum(digit * place[None], axis=1)]
        return constant + jnp.sin(6.0 * t)[:, None, None] * slope


NETWORK = WrongNetwork()
TEXTS = NETWORK.x.astype(np.int32)
NOTHING = (MASK,) * LENGTH
GAP = (MASK, 5, MASK, 6)
CUTS = {
    "temperature": 0.7,
    "annealing": 0.4,
    "top_k": 2,
    "repetition_penalty": 1.3,
}

EXACT = [
    ("confidence", {"num_steps": 2, "grid": "cosine"}),
    ("confidence", {"num_steps": 0} | CUTS),
    ("spread", {"num_steps": 3}),
    ("eb", {"entropy_bound": 0.8} | CUTS),
    ("blocks", {"block_size": 3, "block_sampler": "threshold", "threshold": 0.5}),
    ("left_to_right", CUTS),
]
MORE_EXACT = [
    ("confidence", {"num_steps": 1}),
    ("confidence", {"num_steps": 3}),
    ("spread", {"num_steps": 1}),
    ("margin", {"num_steps": 2, "top_p": 0.8}),
    ("entropy", {"num_steps": 3, "min_p": 0.2}),
    ("threshold", {"threshold": 0.5} | CUTS),
    ("eb", {"entropy_bound": 0.3, "temperature": 0.0}),
    ("blocks", {"block_size": 2, "num_steps": 2, "block_sampler": "confidence"}),
    ("blocks", {"block_size": 3, "block_sampler": "eb"}),
    ("blocks", {"block_size": 2, "num_steps": 4, "block_sampler": "spread"}),
    ("low_temperature", {}),
    ("left_to_right", {}),
]
RANDOM = [
    ("ancestral", {"num_steps": 3}),
    ("blocks", {"block_size": 2, "block_sampler": "first_hitting"} | CUTS),
]
MORE_RANDOM = [
    ("first_hitting", {}),
    ("first_hitting", CUTS),
    ("shuffled", {"num_steps": 2}),
    ("blocks", {"block_size": 2, "num_steps": 4, "block_sampler": "ancestral"}),
]


def cases(quick, *more):
    """Some of many settings are enough for every day."""
    return [*quick, *(pytest.param(*c, marks=pytest.mark.slow) for c in more)]


def replay(
    name, settings, texts=TEXTS, z_1=NOTHING, seed=0, first_row: Any = 0, network=None
):
    """log W of texts, written by a sampler: one draw of its randomness."""
    draw = sampler(name, network or NETWORK, texts.shape, polynomial, **settings)
    template = np.broadcast_to(np.array(z_1, np.int32), texts.shape)
    found = jax.jit(draw)(jax.random.key(seed), template, first_row, jnp.array(texts))
    np.testing.assert_array_equal(found.tokens, texts)
    return np.asarray(found.log_p, np.float64).sum(axis=1)


def possible(z_1):
    """The texts that agree with a template, and end nowhere in a gap."""
    is_given = np.array(z_1) != MASK
    may_end = np.cumsum(is_given[::-1])[::-1] == 0
    fits = np.all((TEXTS == z_1) | ~is_given, axis=1)
    return TEXTS[fits & np.all((TEXTS != EOS) | may_end | is_given, axis=1)]


@pytest.mark.parametrize(
    "name, settings, z_1",
    cases(
        [(*case, NOTHING) for case in EXACT] + [(*EXACT[1], GAP)],
        *((*case, NOTHING) for case in MORE_EXACT),
        *((*case, GAP) for case in [EXACT[0], *EXACT[2:], *MORE_EXACT]),
    ),
    ids=str,
)
def test_the_exact_likelihood_is_the_law_of_the_samples(name, settings, z_1):
    """It adds up to 1 over all texts, and the sampler writes each as often."""
    if name == "left_to_right" and z_1 != NOTHING:
        z_1 = (5, MASK, MASK, MASK)
    texts = possible(z_1)
    p = np.exp(replay(name, settings, texts, z_1))
    assert abs(p.sum() - 1.0) < 1e-5
    draw = sampler(name, NETWORK, (20_000, LENGTH), polynomial, **settings)
    template = np.broadcast_to(np.array(z_1, np.int32), (20_000, LENGTH))
    x = np.asarray(jax.jit(draw)(jax.random.key(1), template).tokens)
    law = dict(zip(map(tuple, texts.tolist()), p / p.sum(), strict=True))
    if name == "left_to_right":  # its samples end at EOS
        law, whole = {}, law
        for row, weight in whole.items():
            end = row.index(EOS) if EOS in row else LENGTH
            row = row[:end] + (EOS,) * (LENGTH - end)
            law[row] = law.get(row, 0.0) + weight
    assert_law(x, law)


@pytest.mark.parametrize(
    "name, settings",
    cases(EXACT[1:4] + RANDOM, EXACT[0], *EXACT[4:], *MORE_EXACT, *MORE_RANDOM),
    ids=str,
)
def test_a_replay_of_samples_repeats_their_path(name, settings):
    """The same key: the same steps, calls and probabilities as when they were drawn."""
    draw = sampler(name, NETWORK, (64, LENGTH), polynomial, **settings)
    first, key = jax.jit(draw), jax.random.key(2)
    drawn = first(key, None, 3)
    again = first(key, None, 3, drawn.tokens)
    if name != "left_to_right":  # which goes on after EOS when it replays
        np.testing.assert_array_equal(again.unmask_step, drawn.unmask_step)
        np.testing.assert_array_equal(again.nfe_per_row, drawn.nfe_per_row)
        np.testing.assert_allclose(again.log_p, drawn.log_p, atol=1e-5)
        is_certain = settings.get("temperature") == 0.0
        assert np.max(drawn.log_p) <= 0.0 and (is_certain or np.min(drawn.log_p) < 0.0)


def test_one_step_draws_every_token_from_nothing():
    """T = 1: the product of the predictions at the all-MASK window."""
    logits = NETWORK.timed_logits(None, jnp.full((1, LENGTH), MASK), jnp.ones(1))[0]
    log_p = jax.nn.log_softmax(
        jnp.where(jnp.arange(16) < NUM_NON_TEXT, -jnp.inf, logits)
    )
    expected = np.take_along_axis(np.asarray(log_p)[None], TEXTS[..., None], 2).sum(
        (1, 2)
    )
    for name in ("confidence", "ancestral"):
        found = replay(name, {"num_steps": 1})
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_token_a_step_means_one_under_every_schedule():
    """With exact conditionals it is then p(x), and there are L calls."""
    source = Table(LENGTH, first=EOS)
    x = jnp.asarray(source.x, jnp.int32)
    for name in ("confidence", "low_temperature", "spread"):
        draw = sampler(name, source, x.shape, polynomial, num_steps=0, grid="")
        found = jax.jit(draw)(jax.random.key(0), None, 0, x)
        assert np.all(np.asarray(found.nfe_per_row) == LENGTH)
        assert np.all(np.sort(found.unmask_step, axis=1) == np.arange(LENGTH))
        if name != "low_temperature":
            p = np.exp(np.asarray(found.log_p, np.float64).sum(axis=1))
            np.testing.assert_allclose(p, source.p, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("grid", ["", "linear", "cosine", "polynomial", "1,3,4,8"])
def test_the_grid_says_how_many_are_masked_after_each_step(grid):
    """T equal steps in the time of the grid's schedule, whatever the training's is."""
    num, cfg = 16, SampleConfig(num_steps=4, grid=grid)
    shares = {
        "linear": lambda s: s,
        "cosine": lambda s: np.cos(np.pi * (1.0 - s) / 2.0),
        "polynomial": lambda s: s * s,
        "1,3,4,8": lambda s: np.array([15, 12, 8, 0]) / 16.0,  # after the steps
    }
    masked = shares[grid or "polynomial"](1.0 - np.arange(1, 5) / 4.0)
    policy = ranked.by_confidence(cfg, polynomial)
    time_grid = base.default_grid(policy, cfg, polynomial, num)
    z = jnp.full((1, num), MASK)
    points = [time_grid.point(jnp.int32(i), z) for i in range(4)]
    np.testing.assert_allclose([1 - p.alpha_s for p in points], masked, atol=1e-5)
    t = np.sqrt([1.0, *masked[:-1]])  # at which the training's masked share is this
    np.testing.assert_allclose([p.t[0] for p in points], t, atol=1e-3)


@pytest.mark.parametrize("grid", ["even", "3,0", "3,,2", "-1,4"])
def test_an_unknown_grid_is_named(grid):
    with pytest.raises(ValueError, match=f"grid='{grid}' is unknown: choose '', one"):
        base.grid_warp(SampleConfig(num_steps=2, grid=grid), linear)


def test_a_text_that_the_sampler_wrote_is_bounded_by_its_own_path():
    """E log-mean-exp with the path that wrote x, and K - 1 others, lies above log p(x)
    and falls with K: enumerated over paths. An independent path lies below."""
    log_w = np.log(np.random.default_rng(0).dirichlet(np.ones(5), size=6).T)  # paths, x
    log_p = sampler_likelihood.log_mean_exp(log_w)
    posterior = np.exp(log_w) / np.exp(log_w).sum(axis=0)
    found = []
    for num_others in range(3):
        mean = np.zeros(6)
        for own, *others in itertools.product(range(5), repeat=1 + num_others):
            upper = sampler_likelihood.own_path_bound(log_w[own], log_w[others])
            mean += posterior[own] * upper / 5**num_others
        found.append(mean)
    assert np.all(found[0] > found[1]) and np.all(found[1] > found[2])
    assert np.all(found[2] > log_p) and np.all(log_w.mean(axis=0) < log_p)


def test_every_sampler_is_exact_bracketed_or_refused():
    """By what its policy says, not by its name; there is no fourth kind."""
    kinds = {}
    for name in sampling.samplers():
        try:
            is_random = sampling.order(SampleConfig(sampler=name), LENGTH).is_random
            kinds[name] = "random" if is_random else "exact"
        except ValueError as error:
            kinds[name] = "masks" if "masks tokens again" in str(error) else "drops"
    assert kinds == {
        **dict.fromkeys(["ancestral", "first_hitting", "shuffled"], "random"),
        **dict.fromkeys(["confidence", "margin", "entropy", "threshold"], "exact"),
        **dict.fromkeys(["eb", "spread", "blocks", "low_temperature"], "exact"),
        **dict.fromkeys(["remdm_cap", "remdm_rescale", "remdm_conf"], "masks"),
        "remdm_loop": "masks",
        "vicentino2026": "drops",
    }
    of_blocks = SampleConfig(sampler="blocks", block_size=3, block_sampler="ancestral")
    assert sampling.order(of_blocks, LENGTH) == Order(is_random=True, block_size=3)


def test_a_policy_that_peeks_at_hidden_tokens_breaks_the_sum(monkeypatch):
    """What `depends_on` promises: with the true token's probability as the score of a
    position, the probabilities add up to more than 1."""

    def peeking(truth):
        def score(prediction):
            return jnp.take_along_axis(prediction.logits, truth[..., None], 2)[..., 0]

        return lambda cfg, alpha: ranked.policy(score, cfg, alpha)

    monkeypatch.setitem(sampling.POLICIES, "peeking", peeking(jnp.asarray(TEXTS)))
    assert np.exp(replay("peeking", {"num_steps": 0})).sum() > 1.1


def test_positions_that_the_text_leaves_masked_stay_masked():
    """The law of a gap when nothing behind the given text is drawn adds up to 1."""
    texts = np.array([[x, 5, y, MASK] for x in (5, 6) for y in (4, 5, 6)], np.int32)
    z_1 = (MASK, 5, MASK, MASK)
    for name in ("confidence", "spread", "eb"):
        p = np.exp(replay(name, {"num_steps": 2}, texts, z_1))
        assert abs(p.sum() - 1.0) < 1e-5


def test_a_text_that_a_cut_rules_out_has_probability_zero():
    """-inf, and no NaN; a gap that holds EOS as well."""
    log_p = replay("confidence", {"num_steps": 2, "top_k": 1})
    assert np.isneginf(log_p).sum() == len(TEXTS) - 1 and np.max(log_p) == 0.0
    with_eos = np.array([[EOS, 5, 5, 6]], np.int32)
    assert np.isneginf(replay("confidence", {}, with_eos, GAP)).all()


@pytest.mark.parametrize("name, settings", cases(RANDOM, *MORE_RANDOM), ids=str)
def test_one_draw_of_the_order_is_a_law(name, settings):
    """W adds up to 1 over texts for the same positions and times: rows whose
    first_row is the same have the same randomness."""
    first_row = -np.arange(len(TEXTS)) + 7  # row b has the key of row 7
    for seed in range(3):
        log_w = replay(name, settings, seed=seed, first_row=jnp.asarray(first_row))
        assert abs(np.exp(log_w).sum() - 1.0) < 1e-5


@pytest.mark.parametrize("name, settings", cases(RANDOM[:1], *MORE_RANDOM), ids=str)
def test_the_mean_over_orders_is_the_law_of_the_samples(name, settings):
    """E[W] = p(x): the frequencies of 40,000 samples against 500 draws a text."""
    rows = np.tile(np.arange(len(TEXTS)), 500)
    log_w = replay(name, settings, TEXTS[rows], seed=5).reshape(500, -1)
    p, error = np.exp(log_w).mean(axis=0), np.exp(log_w).std(axis=0) / 500**0.5
    draw = sampler(name, NETWORK, (40_000, LENGTH), polynomial, **settings)
    x = np.asarray(jax.jit(draw)(jax.random.key(6)).tokens)
    index = (x - EOS) @ (3 ** np.arange(LENGTH)[::-1])
    share = np.bincount(index, minlength=len(TEXTS)) / len(x)
    spread = np.sqrt(error**2 + share / len(x))
    assert np.max(np.abs(p - share) / spread) < 4.5


def test_the_lower_bound_rises_to_the_truth_with_the_number_of_orders():
    """Monotone in K, below log p for every K, and equal to it at all L! orders."""
    orders = np.array(list(itertools.permutations(range(LENGTH))))
    logits = {}

    def log_q(z):
        if z not in logits:
            out = NETWORK.timed_logits(None, jnp.array([z]), jnp.zeros(1))[0]
            out = jnp.where(jnp.arange(16) < NUM_NON_TEXT, -jnp.inf, out)
            logits[z] = np.asarray(jax.nn.log_softmax(out), np.float64)
        return logits[z]

    log_w = np.zeros((len(orders), len(TEXTS)))
    for k, order in enumerate(orders):
        for n, x in enumerate(TEXTS.tolist()):
            z = [MASK] * LENGTH
            for at in order:
                log_w[k, n] += log_q(tuple(z))[at, x[at]]
                z[at] = x[at]
    log_p = sampler_likelihood.log_mean_exp(log_w)
    assert abs(np.exp(log_p).sum() - 1.0) < 1e-6
    rng, means = np.random.default_rng(0), []
    for size in (1, 2, 4, 8, 16):
        draws = rng.integers(len(orders), size=(size, 4_000))
        found = [
            sampler_likelihood.log_mean_exp(log_w[draws[:, i]]) for i in range(4_000)
        ]
        means.append(np.mean(found, axis=0))
    gaps = [(log_p - mean).mean() for mean in means]
    assert all(a > b > 0 for a, b in itertools.pairwise(gaps))
    assert np.all(means[0] < log_p) and np.all(means[-1] < log_p + 0.05)
    upper = [
        sampler_likelihood.tangent(log_w[rng.integers(len(orders), size=16)])[0]
        for _ in range(4_000)
    ]
    assert np.all(np.mean(upper, axis=0) > log_p - 0.02)
    certified = 0  # sum LME < sum log p + log 20 in at least 95% of repetitions
    for _ in range(1_000):
        rows = rng.integers(len(TEXTS), size=8)
        draws = rng.integers(len(orders), size=(2, 8))
        found = sampler_likelihood.log_mean_exp(log_w[draws, rows])
        certified += found.sum() < log_p[rows].sum() + math.log(20.0)
    assert certified >= 950


def test_no_upper_bound_without_enough_effective_draws():
    """Log-normal W: a few heavy draws below the truth are not called a bound."""
    rng = np.random.default_rng(0)
    for spread, num_orders, has_bound in (
        (0.5, 32, True),
        (4.0, 32, False),
        (0.5, 8, False),
    ):
        log_p = rng.normal(scale=spread, size=(num_orders, 20_000, 1)) - spread**2 / 2
        found = sampler_likelihood.bounds(log_p)
        assert (found["lower"] is not None) == has_bound
        assert found["window_nats"].mean() > 0.0  # p is 1
        assert found["nelbo"] > found["window_nats"].mean()
        assert found["certified"] > found["window_nats"].mean()
        if has_bound:
            assert found["lower"] < 0.0 < found["lower_error"]


def test_a_text_that_no_drawn_order_writes_has_no_number():
    """Neither NaN nor infinity reaches a file; nor does the spread of one window."""
    log_p = np.zeros((32, 3, 2))
    log_p[:, 1, 0] = -np.inf
    found = sampler_likelihood.bounds(log_p)
    assert np.isposinf(found["window_nats"]).tolist() == [False, True, False]
    assert found["nelbo"] is found["certified"] is found["lower"] is None
    log_p[16:, 1, 0] = 0.0  # only some orders have probability zero
    found = sampler_likelihood.bounds(log_p)
    assert found["window_nats"][1] == pytest.approx(math.log(2.0))
    assert found["nelbo"] is found["lower"] is None and found["certified"] > 0.0
    found = sampler_likelihood.bounds(np.zeros((32, 1, 2)))
    assert (found["lower"], found["lower_error"]) == (0.0, None)


def test_blocks_have_bounds_of_their_own():
    """The mean over draws is taken in each block: tighter than that of whole paths, and
    exact where each block is one draw."""
    rng = np.random.default_rng(1)
    log_p = rng.normal(size=(16, 50, 6)) - 0.5
    whole, apart = (
        sampler_likelihood.bounds(log_p, size)["window_nats"] for size in (0, 2)
    )
    assert apart.mean() < whole.mean()
    by_hand = sum(
        np.asarray(logsumexp(log_p[:, :, i : i + 2].sum(axis=2), axis=0)) - math.log(16)
        for i in (0, 2, 4)
    )
    np.testing.assert_allclose(apart, -by_hand)
    size = sampler_likelihood.effective_size(np.log([[0.5, 1.0], [0.5, 0.0 + 1e-300]]))
    np.testing.assert_allclose(size, [2.0, 1.0])
