"""Samplers of both families: exactness, invariances, and what they say they did.

A source with a table of probabilities stands in the network's place. The laws of the
samplers of diffusion in few steps are in tests/test_sampling_laws.py.
"""

import textwrap
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampler_distributions import (
    DIFFUSION,
    LEFT_TO_RIGHT,
    Table,
    draw_by,
    program,
    write_by,
)
from scipy import stats

from ar_jax import sampling as ar
from lm_jax import sharding
from lm_jax.config import SampleConfig
from lm_jax.types import EOS, MASK, NUM_NON_TEXT
from mdlm_jax import sampling as mdlm
from mdlm_jax.samplers import base, blocks
from mdlm_jax.schedule import linear, polynomial

pytestmark = pytest.mark.usefixtures("fast_compilation")

NUM = 10_000
SOURCE = Table(length=4)
SOURCE_WITH_EOS = Table(length=4, first=EOS)

# Every sampler with settings under which all that it can do happens.
REMASKING = {"num_steps": 4, "eta": 0.5, "alpha": polynomial}
SETTINGS = {
    LEFT_TO_RIGHT: {"repetition_penalty": 1.2},
    **{name: {"num_steps": 3, "alpha": polynomial} for name in DIFFUSION},
    "blocks": {
        "num_steps": 6,
        "block_size": 2,
        "block_sampler": "remdm_cap",
        "eta": 0.5,
    },
    "threshold": {"threshold": 0.6, "repetition_penalty": 1.2, "annealing": 0.5},
    "remdm_cap": REMASKING,
    "remdm_rescale": REMASKING,
    "remdm_conf": REMASKING | {"eta": 1.0},
    "remdm_loop": {"num_steps": 8, "eta": 0.5, "alpha_on": 0.6},
    "first_hitting": {"top_k": 2},
    "eb": {"entropy_bound": 0.8, "repetition_penalty": 1.2},
}
COMMON = (LEFT_TO_RIGHT, "ancestral", "confidence", "remdm_conf")
NEVER_REMASKS = sorted(n for n in SETTINGS if "remdm" not in n and n != "blocks")


def test_the_loop_is_plain_ancestral_sampling_bit_for_bit():
    """The text in the docstring of samplers/base.py draws the same tokens."""
    text = (base.__doc__ or "").partition("    def ancestral")[2].partition("\n\n")[0]
    namespace = {**vars(jax), **vars(base), "jax": jax, "jnp": jnp}
    exec(textwrap.dedent("    def ancestral" + text), namespace)
    source, key = Table(length=6), jax.random.key(3)
    for alpha, num_steps in ((polynomial, 4), (linear, 9)):
        settings = {"num_steps": num_steps, "alpha": alpha}
        x = draw_by("ancestral", source, 3, (32, 6), **settings)
        for row in range(32):
            row_key = jax.random.fold_in(key, row)
            plain = namespace["ancestral"](
                source.timed_logits, {}, row_key, 6, num_steps, alpha
            )
            np.testing.assert_array_equal(x[row], plain)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_what_is_written_is_told(name):
    """Given tokens stay at every step, only text is left, and the trace explains all:
    the last step's tokens are the result, and unmask_step is when each came to stay."""
    rng = np.random.default_rng(0)
    template = rng.choice([5, 6, 7, MASK, MASK], (NUM, 4)).astype(np.int32)
    if name == LEFT_TO_RIGHT:  # it only looks back
        template = np.where(np.cumsum(template == MASK, axis=1) > 0, MASK, template)
    settings = SETTINGS[name] | {"traced": True}
    written = jax.device_get(write_by(name, SOURCE, 7, (NUM, 4), template, **settings))
    x, history = written.tokens, written.history
    is_given = template != MASK
    np.testing.assert_array_equal(np.where(is_given, x, MASK), template)
    assert np.all((history == template[None]) | ~is_given[None])
    assert x.min() >= NUM_NON_TEXT
    np.testing.assert_array_equal(history[-1], x)
    before = np.concatenate([template[None], history[:-1]])
    is_new = (history != before) & (history != MASK)
    last = len(history) - 1 - np.argmax(is_new[::-1], axis=0)
    np.testing.assert_array_equal(written.unmask_step, np.where(is_given, -1, last))
    if name in NEVER_REMASKS:
        assert is_new.sum() == (~is_given).sum()
    else:
        assert is_new.sum() > (~is_given).sum()
    if name != LEFT_TO_RIGHT:  # no network where nothing is written
        num_active = np.any(is_new, axis=2).sum(axis=0)
        np.testing.assert_array_equal(written.nfe_per_row, num_active)
        assert written.nfe == np.any(is_new, axis=(1, 2)).sum()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in COMMON else pytest.mark.slow)
        for name in sorted(SETTINGS)
    ],
)
def test_a_row_is_the_same_in_any_batch_and_on_any_devices(name):
    """Rows 16..31 of a batch on one device are 16 rows with first_row=16 on eight."""
    many = draw_by(name, SOURCE, 8, (NUM, 4), **SETTINGS[name])
    template = np.full((16, 4), MASK, np.int32)
    template = sharding.shard_batch(sharding.make_mesh(16), template)
    draw = program(name, SOURCE, (16, 4), **SETTINGS[name])
    some = draw(jax.random.key(8), template, jnp.int32(16))
    assert len(some.tokens.sharding.device_set) == 8
    np.testing.assert_array_equal(many[16:32], some.tokens)
    assert len(np.unique(some.tokens, axis=0)) > 1


@pytest.mark.parametrize("name", ["confidence", "threshold", "blocks", LEFT_TO_RIGHT])
def test_greedy_is_deterministic(name):
    """At temperature 0, and where no position is left to chance, no key matters."""
    settings = {"temperature": 0.0, "block_size": 2, "block_sampler": "confidence"}
    one, other = (draw_by(name, SOURCE, seed, (8, 4), **settings) for seed in (0, 1))
    np.testing.assert_array_equal(one, other)
    assert len(np.unique(one, axis=0)) == 1


@pytest.mark.parametrize("num_steps, length", [(6, 5), (20, 12)])
def test_steps_without_an_opening_call_no_network(num_steps, length):
    """A row alone calls T (1 - (1 - 1/T)^L) times on average, the batch once a step in
    which any of its rows opens, and the time told is that of the step."""

    def logits_fn(params, z_t, t):
        return jnp.zeros((*z_t.shape, 8))

    num = 4_000
    written = write_by("ancestral", logits_fn, 13, (num, length), num_steps=num_steps)
    calls = np.asarray(written.nfe_per_row)
    expected = num_steps * (1 - (1 - 1 / num_steps) ** length)
    assert abs(calls.mean() - expected) < 4 * calls.std() / np.sqrt(num)
    one = write_by("ancestral", logits_fn, 13, (1, length), num_steps=num_steps)
    assert one.nfe == one.nfe_per_row[0] == calls[0]
    assert written.nfe == num_steps


def test_the_head_runs_where_tokens_are_drawn():
    """With T = L the head sees 2 of 64 positions at a time, and no more."""
    sizes = []

    def head_fn(params, h):
        sizes.append(h.shape)
        return jnp.zeros((*h.shape[:2], 8))

    def hidden_fn(params, z_t, t):
        return jnp.zeros((*z_t.shape, 3))

    for name in ("ancestral", "first_hitting", "remdm_cap"):
        cfg = SampleConfig(sampler=name)
        draw = partial(mdlm.sample, hidden_fn, head_fn)
        jax.eval_shape(lambda key: draw({}, key, (5, 64), cfg), jax.random.key(0))  # noqa: B023
    assert set(sizes) == {(5, 2, 3)}


def test_the_study_s_steps_write_one_token_and_then_two():
    """128 tokens in 100 steps: one token in each of 72, two in each of 28."""

    def logits_fn(params, z_t, t):
        return jnp.zeros((*z_t.shape, 8))

    written = write_by("vicentino2026", logits_fn, 14, (2, 128))
    assert written.nfe == 100
    for row in np.asarray(written.unmask_step):
        sizes = np.bincount(row, minlength=100)
        np.testing.assert_array_equal(sizes, [1] * 72 + [2] * 28)


def test_an_unknown_sampler_is_refused():
    """The error names the value and the choices of the family."""
    with pytest.raises(
        ValueError, match="'greedy' is unknown.*'ancestral'.*'vicentino2026'"
    ):
        draw_by("greedy", SOURCE, 0, (1, 4))
    cfg, pair = (
        SampleConfig(sampler="ancestral"),
        ar.without_cache(SOURCE.causal_logits),
    )
    with pytest.raises(ValueError, match="'ancestral' is unknown.*'left_to_right'"):
        ar.sample(*pair, {}, jax.random.key(0), (1, 4), cfg)
    with pytest.raises(ValueError, match="block_sampler='blocks'.*'first_hitting'"):
        draw_by("blocks", SOURCE, 0, (1, 4), block_sampler="blocks")


@pytest.mark.parametrize(
    "name, temperature", [("vicentino2026", 0.8), ("low_temperature", 0.5)]
)
def test_a_preset_has_its_own_settings(name, temperature):
    """Whatever else is asked: this temperature, without cuts."""
    pair = ar.without_cache(SOURCE.causal_logits)
    cfgs = (
        SampleConfig(sampler=name, temperature=0.1, top_k=1),
        SampleConfig(temperature=temperature),
    )
    one, other = (
        ar.sample(*pair, {}, jax.random.key(1), (64, 4), cfg).tokens for cfg in cfgs
    )
    np.testing.assert_array_equal(one, other)


def test_careful_diffusion_is_cold_and_takes_one_token_a_step():
    """Whatever else is asked, "low_temperature" is "confidence" at temperature 0.5."""
    one = draw_by("low_temperature", SOURCE, 5, (64, 4), num_steps=1, top_k=1)
    other = draw_by("confidence", SOURCE, 5, (64, 4), num_steps=4, temperature=0.5)
    np.testing.assert_array_equal(one, other)


def test_no_story_ends_inside_a_gap():
    """EOS is never drawn left of the last given token, and freely right of it."""

    def logits_fn(params, z_t, t):
        return jnp.zeros((500, 6, 8)).at[..., EOS].set(3.0)

    template = np.tile(np.array([MASK, 5, MASK, EOS, MASK, MASK], np.int32), (500, 1))
    x = draw_by("ancestral", logits_fn, 9, (500, 6), template)
    assert not np.any(x[:, [0, 2]] == EOS)
    assert np.mean(x[:, 4:] == EOS) > 0.7


def test_no_position_is_ranked_by_an_eos_that_may_not_be_drawn():
    """Before the given token EOS is nearly certain, but may not be drawn: the other
    words have one half each there, less than the 99% at the last position."""
    p = np.full((3, 8), 1e-9, np.float32)
    p[0, [EOS, 5, 6]] = 0.9998, 0.0001, 0.0001
    p[2, [5, 6]] = 0.99, 0.01

    def logits_fn(params, z_t, t):
        return jnp.broadcast_to(jnp.log(jnp.asarray(p)), (4, 3, 8))

    for name in ("confidence", "vicentino2026"):
        template = (MASK, 7, MASK)
        written = write_by(name, logits_fn, 9, (4, 3), template, num_steps=2)
        np.testing.assert_array_equal(written.unmask_step, [[1, -1, 0]] * 4, name)


def test_the_penalty_is_on_every_token_of_the_row():
    """Token 5, given once, has the logit 4; penalty 2 leaves it 2, below token 6."""
    logits = jnp.full((8,), -9.0).at[5].set(4.0).at[6].set(3.0)

    def logits_fn(params, z_t, t):
        return jnp.broadcast_to(logits, (*z_t.shape, 8))

    for penalty, token in ((1.0, 5), (2.0, 6)):
        settings = {"repetition_penalty": penalty, "temperature": 0.0}
        for name in ("ancestral", "confidence"):
            x = draw_by(name, logits_fn, 0, (2, 2), (5, MASK), num_steps=1, **settings)
            np.testing.assert_array_equal(x, [[5, token]] * 2)


def test_psi_is_the_probability_of_the_model():
    """At temperature 0 too: tokens of probability 0.9 and 0.6 are told apart."""
    p = jnp.full((2, 8), 1e-9).at[0, 5].set(0.9).at[0, 6].set(0.1)
    p = p.at[1, 5].set(0.6).at[1, 6].set(0.4)

    def plan(info):  # unmasks everything, and remasks once what had less than 3 / 4
        is_second = info.steps_left == 1
        unlikely = info.is_unmasked & (info.psi < 0.75) & is_second
        return base.StepPlan(info.is_masked, unlikely)

    policy = base.UnmaskingPolicy(plan, "random", remasks=True)
    parts = base.split_logits_fn(
        lambda params, z, t: jnp.broadcast_to(jnp.log(p), (3, 2, 8))
    )
    sampler = base.Sampler(policy, base.uniform_grid(linear, 2))
    cfg, z_1 = SampleConfig(temperature=0.0), jnp.full((3, 2), MASK)
    x = base.run(sampler, *parts, {}, jax.random.key(0), z_1, cfg).tokens
    np.testing.assert_array_equal(x, [[5, MASK]] * 3)


@pytest.mark.parametrize("num_steps, expected", [(0, 6), (1, 3), (5, 6), (6, 6)])
def test_blocks_have_at_least_the_steps_that_are_asked_for(num_steps, expected):
    """5 tokens in blocks of 2 are 3 blocks, each with the same number of steps."""
    assert blocks.block_grid(linear, 5, 2, num_steps).num_steps == expected


def write_the_time(name, shape, fineness, **settings):
    """What a network writes that notes the time it is told, and the steps: (B, L)."""

    def logits_fn(params, z_t, t):
        ids = jnp.round(5 + fineness * t).astype(jnp.int32)
        words = jnp.broadcast_to(ids[:, None], shape)
        return 50.0 * jax.nn.one_hot(words, 8 + fineness)

    written = write_by(name, logits_fn, 10, shape, **settings)
    return (np.asarray(written.tokens) - 5) / fineness, np.asarray(written.unmask_step)


@pytest.mark.parametrize("name", ["confidence", "ancestral", "vicentino2026"])
def test_the_network_is_told_the_time_of_the_step(name):
    """Step i is asked at t_i = 1 - i / T."""
    num_steps = 100 if name == "vicentino2026" else 8
    t, steps = write_the_time(name, (3, 8), 100 if name == "vicentino2026" else 8)
    np.testing.assert_allclose(t, 1 - steps / num_steps)


@pytest.mark.parametrize("settings", [{}, {"alpha": polynomial}], ids=str)
def test_first_hitting_tells_when_a_position_opens(settings):
    """The masked shares 1 - alpha(t) are uniform and independent, and t falls."""
    t, steps = write_the_time("first_hitting", (400, 8), 4_096, **settings)
    assert np.all(np.sort(steps) == np.arange(8))
    assert np.all(np.diff(np.take_along_axis(t, np.argsort(steps), axis=1)) <= 0)
    share = np.ravel(t**2 if settings else t)
    assert stats.kstest(share, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("inner", ["threshold", "first_hitting", "confidence"])
def test_blocks_tell_the_time_of_the_whole_window(inner):
    """alpha(t) is the share that is written, and blocks open from left to right."""
    settings = {"block_size": 2, "block_sampler": inner, "threshold": 1.0}
    t, steps = write_the_time("blocks", (5, 8), 8, **settings)
    np.testing.assert_allclose(t, 1 - steps / 8)
    np.testing.assert_array_equal(steps // 2, [np.arange(8) // 2] * 5)


def test_time_stands_still_while_remdm_loops():
    """From t_on to t_off the network is told the time at which alpha_on is clean."""
    settings = {"num_steps": 64, "t_on": 0.75, "t_off": 0.25, "alpha_on": 0.5}
    t, steps = write_the_time("remdm_loop", (50, 8), 64, eta=1.0, **settings)
    clock = 1 - steps / 64
    before, after = 1 - 0.5 * (1 - clock) / 0.25, 0.5 * clock / 0.25
    told = np.where(clock > 0.75, before, np.where(clock < 0.25, after, 0.5))
    np.testing.assert_allclose(t, told)


def test_any_number_of_positions_may_open_at_once():
    """All of a row opens in the last step: no token is missed, no two share a key.

    Even positions have about 1,000 words, equally likely; odd positions have others.
    """

    def at_the_end(t):
        return jnp.where(t > 0.0, 0.0, 1.0)

    def logits_fn(params, z_t, t):
        is_odd = (jnp.arange(10) % 2 == 1)[None, :, None]
        is_own = (jnp.arange(2_048) >= 1_024)[None, None] == is_odd
        return jnp.broadcast_to(jnp.where(is_own, 0.0, -50.0), (200, 10, 2_048))

    x = draw_by("ancestral", logits_fn, 11, (200, 10), alpha=at_the_end)
    np.testing.assert_array_equal(x // 1_024, [np.arange(10) % 2] * 200)
    for distance in (2, 4, 6, 8):
        assert np.mean(x[:, distance:] == x[:, :-distance]) < 0.02


def test_rare_words_survive_many_steps():
    """Half of the text is one of 16,384 rare words: it still is at T = 1,000.

    One draw over {stay} and V together, in float32, would lose half of them.
    """
    log_p = np.zeros(16_384 + 128, np.float32)
    log_p[:128] = -np.inf
    log_p[127] = np.log(16_384)

    def logits_fn(params, z_t, t):
        return jnp.broadcast_to(jnp.asarray(log_p), (1, 128, len(log_p)))

    x = draw_by("ancestral", logits_fn, 12, (1, 128), num_steps=1_000)
    assert abs(np.mean(x > 127) - 0.5) < 4 * 0.5 / np.sqrt(x.size)
    assert len(np.unique(x)) > 30
