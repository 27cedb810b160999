"""The law of every sampler of diffusion in few steps, against its definition.

tests/processes.py enumerates what the definitions say.
"""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from processes import LINEAR, law_of, laws_of, masked, process
from sampler_distributions import (
    DIFFUSION,
    Table,
    assert_law,
    conditional,
    draw_by,
    table,
    write_by,
)

from lm_jax.types import MASK
from mdlm_jax.schedule import linear, polynomial

pytestmark = pytest.mark.usefixtures("fast_compilation")

NUM = 10_000
SOURCE = Table(length=4)


BLOCKS = {"num_steps": 4, "block_size": 2}
LOOP = {"num_steps": 6, "t_on": 0.7, "t_off": 0.2, "alpha_on": 0.6, "eta": 0.3}
CASES = [
    ("ancestral", {"num_steps": 3}),
    ("confidence", {"num_steps": 3}),
    ("margin", {"num_steps": 3}),
    ("entropy", {"num_steps": 3}),
    ("threshold", {"threshold": 0.6}),
    ("eb", {"entropy_bound": 0.8}),
    ("spread", {"num_steps": 3}),
    ("shuffled", {"num_steps": 3}),
    ("remdm_cap", {"num_steps": 4, "eta": 0.3}),
    ("remdm_rescale", {"num_steps": 4, "eta": 0.5}),
    ("remdm_conf", {"num_steps": 3, "eta": 1.0}),
    ("remdm_loop", LOOP),
    ("blocks", BLOCKS | {"block_sampler": "ancestral"}),
    ("blocks", BLOCKS | {"block_sampler": "confidence", "num_steps": 2}),
    ("blocks", {"block_size": 2, "block_sampler": "threshold", "threshold": 0.6}),
]
GAP = (MASK, 6, MASK, 7)


@pytest.mark.parametrize("z_1", [(MASK,) * 4, GAP], ids=["nothing", "gap"])
@pytest.mark.parametrize("name, settings", CASES, ids=str)
def test_few_steps_follow_the_definition(name, settings, z_1):
    """In every step, from nothing and between given tokens: chi-squared."""
    schedule = linear if name in LINEAR else polynomial
    steps = process(name, masked(z_1), settings)
    written = write_by(
        name, SOURCE, 3, (NUM, 4), z_1, alpha=schedule, traced=True, **settings
    )
    *moves, end = laws_of(SOURCE, steps, z_1, remembers=name == "remdm_conf")
    assert_law(written.tokens, end)
    z_t = np.broadcast_to(z_1, (NUM, 4))
    for z_s, laws in zip(np.asarray(written.history), moves, strict=True):
        is_shut = (z_t != MASK) & (z_s == MASK)
        for happened, law in zip((z_s == MASK, is_shut), laws, strict=True):
            assert_law(np.concatenate([z_t, happened], axis=1), law)
        z_t = z_s


@pytest.mark.parametrize(
    "name, settings, excess",
    [
        ("ancestral", {"num_steps": 3}, (0.0, 0.0, 0.0)),
        ("remdm_cap", {"num_steps": 4, "eta": 0.3}, (0.0, 0.0, 0.0, 0.0)),
        ("remdm_rescale", {"num_steps": 4, "eta": 0.5}, (0.0, 0.0, 0.0, 0.0)),
        ("remdm_conf", {"num_steps": 3, "eta": 1.0}, (0.0, 0.2, 0.0)),
        ("remdm_conf", {"num_steps": 3, "eta": 0.5}, (0.0, 0.1, 0.0)),
    ],
)
def test_the_schedule_says_how_much_is_masked(name, settings, excess):
    """1 - alpha_s after each step, whatever was masked again; `remdm_conf` masks more,
    as only written tokens have a sigma there, and masked ones open as before."""
    schedule = linear if name in LINEAR else polynomial
    written = write_by(
        name, SOURCE, 3, (NUM, 4), alpha=schedule, traced=True, **settings
    )
    share = np.mean(np.asarray(written.history) == MASK, axis=(1, 2))
    s = 1.0 - np.arange(1, len(share) + 1) / len(share)
    masked_share = s if name in LINEAR else s * s
    np.testing.assert_allclose(share, masked_share + excess, atol=0.01)


def test_every_sampler_has_its_law_checked():
    """Those that are not enumerated here are exact, a preset, or the study's."""
    others = {"first_hitting", "low_temperature", "vicentino2026"}
    assert {name for name, _ in CASES} | others == set(DIFFUSION)


@pytest.mark.parametrize("inner", ["first_hitting", "confidence"])
def test_one_position_a_step_is_exact(inner):
    """First hitting, and any order that looks at the text alone: x ~ p exactly."""
    for name in (inner, "blocks"):
        settings = {"block_sampler": inner, "block_size": 3, "num_steps": 0}
        assert_law(draw_by(name, SOURCE, 6, (NUM, 4), **settings), table(SOURCE))


def test_annealing_cools_towards_the_end():
    """Step i draws at temperature tau (c + (1 - c) t_i)."""
    settings = {"num_steps": 3, "temperature": 0.8, "annealing": 0.25}
    steps = process("ancestral", list(range(4)), settings)
    law = law_of(
        SOURCE, steps, (MASK,) * 4, lambda i: 0.8 * (0.25 + 0.75 * (1 - i / 3))
    )
    x = draw_by("ancestral", SOURCE, 7, (NUM, 4), alpha=polynomial, **settings)
    assert_law(x, law)


@pytest.mark.parametrize("name", ["confidence", "margin", "entropy"])
def test_greedy_ranks_by_the_model(name):
    """At temperature 0 every cut probability is 1, yet the surest position is first."""
    starts = [(MASK, *rest) for rest in itertools.product((5, 6, MASK), repeat=3)]
    expected = []
    for z_1 in starts:
        steps = process(name, masked(z_1), {"num_steps": 3})
        expected.append(next(iter(law_of(SOURCE, steps, z_1, lambda i: 0.0))))
    for seed in (0, 1):
        settings = {"num_steps": 3, "alpha": polynomial, "temperature": 0.0}
        x = draw_by(name, SOURCE, seed, (27, 4), starts, **settings)
        np.testing.assert_array_equal(x, expected)


def test_the_study_s_sampler_follows_its_code():
    """All masked positions draw; the one whose own token is likeliest stays written.

    Temperature 0.8 (0.4 + 0.6 t) with t = 1, 0.99, ...; the logit log p of a token that
    is written c times is divided by min(1.3^c, 5), though it is negative.
    """
    law = {(MASK,) * 4: 1.0}
    for i in range(4):
        heat, after = 0.8 * (0.4 + 0.6 * (1 - i / 100)), defaultdict(float)
        for z, weight in law.items():
            p, places = conditional(SOURCE, z), masked(z)
            counts = np.array([z.count(v) for v in range(16)])
            with np.errstate(divide="ignore"):
                q = np.exp(np.log(p) / np.minimum(1.3**counts, 5.0) / heat)
            q /= q.sum(axis=-1, keepdims=True)
            for tokens in itertools.product((5, 6, 7), repeat=len(places)):
                own = [q[at, v] for at, v in zip(places, tokens, strict=True)]
                best = int(np.argmax(own))
                z_s = list(z)
                z_s[places[best]] = tokens[best]
                after[tuple(z_s)] += weight * np.prod(own)
        law = after
    assert_law(draw_by("vicentino2026", SOURCE, 8, (NUM, 4)), law)


@pytest.mark.parametrize("name", ["remdm_cap", "remdm_rescale", "remdm_conf"])
def test_remasking_without_strength_is_ancestral(name):
    """eta = 0: the same tokens, bit for bit."""
    settings = {"num_steps": 3, "alpha": polynomial}
    x = draw_by("ancestral", SOURCE, 9, (NUM, 4), **settings)
    y = draw_by(name, SOURCE, 9, (NUM, 4), eta=0.0, **settings)
    np.testing.assert_array_equal(x, y)


BIG = 100_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, settings",
    [
        ("left_to_right", {}),
        ("first_hitting", {}),
        ("ancestral", {"num_steps": 256}),
        ("blocks", {"block_size": 1, "block_sampler": "ancestral"}),
        ("blocks", {"block_size": 1, "block_sampler": "remdm_cap", "eta": 0.5}),
    ],
    ids=str,
)
def test_exact_samplers_are_exact(name, settings):
    """Over 4^5 sequences, 100,000 draws: chi-squared finds no difference."""
    source = Table(length=5, num_symbols=4)
    assert_law(draw_by(name, source, 10, (BIG, 5), **settings), table(source))
