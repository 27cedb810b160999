"""The law of every sampler of diffusion in few steps, enumerated from its definition.

With few steps the law is not that of the source, but it is known: here each process is
followed state by state in float64, by code that shares nothing with the samplers.
"""

import itertools
from collections import defaultdict

import jax
import numpy as np
import pytest
from laws import DIFFUSION, Table, assert_law, conditional, draw_by, table, write_by

from lm_jax.types import MASK
from mdlm_jax.schedule import linear, polynomial

NUM = 10_000
SOURCE = Table(length=4)


@pytest.fixture(autouse=True, scope="module")
def fast_compilation():
    """Here compiling takes far longer than running, so XLA need not optimise."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def alpha(t):
    return 1.0 - t * t


# A process is a list of steps. A step is (z, psi, p) -> ((chance, opened, shut), ...):
# which of the positions open and shut, where p are the conditionals of what z shows and
# psi the probabilities that the tokens of z had when they were written.


def masked(z, region=None):
    places = range(len(z)) if region is None else region
    return [at for at in places if z[at] == MASK]


def each_by_itself(chances, places):
    """Every subset of the places and its probability, as each has its own chance."""
    for bits in itertools.product((0, 1), repeat=len(places)):
        chance = np.prod(
            [c if b else 1 - c for c, b in zip(chances, bits, strict=True)]
        )
        yield chance, [at for at, b in zip(places, bits, strict=True) if b]


def reverse_step(a_t, a_s, free, sigma=lambda z, psi: 0.0, region=None):
    """Opens with (a_s - (1 - sigma) a_t) / (1 - a_t), shuts with sigma."""

    def step(z, psi, p):
        closed = masked(z, region)
        written = [at for at in free if z[at] != MASK and (not region or at in region)]
        sigmas = np.broadcast_to(sigma(z, psi), len(z))
        opening = [(a_s - (1 - sigmas[at]) * a_t) / (1 - a_t) for at in closed]
        for one, opened in each_by_itself(opening, closed):
            for other, shut in each_by_itself([sigmas[at] for at in written], written):
                yield one * other, opened, shut

    return step


def best_step(score, a_s, free, region=None):
    """The best-scored places open, until round((1 - a_s) n) of n free ones are left."""

    def step(z, psi, p):
        closed = masked(z, region)
        num_free = len([at for at in free if region is None or at in region])
        num_open = max(len(closed) - round((1.0 - a_s) * num_free), 0)
        yield 1.0, sorted(closed, key=lambda at: -score(p[at]))[:num_open], []

    return step


def sure_step(least, size=None):
    """All places surer than `least`, and the surest, in the leftmost open block."""

    def step(z, psi, p):
        closed = masked(z)
        if size and closed:
            closed = [at for at in closed if at // size == closed[0] // size]
        surest = sorted(closed, key=lambda at: -p[at].max())[:1]
        sure = [at for at in closed if p[at].max() > least]
        yield 1.0, sorted({*surest, *sure}), []

    return step


def confidence(p):
    return p.max()


def margin(p):
    return np.sort(p)[-1] - np.sort(p)[-2]


def entropy(p):
    return sum(q * np.log(q) for q in p if q > 0)


def sigma_max(a_t, a_s):
    return min(1.0, (1 - a_s) / a_t) if a_t > 0 else 1.0


def doubt(share, free):
    """`share` over the written places, by softmax(-psi)."""

    def sigma(z, psi):
        weight = [
            np.exp(-psi[at]) * (at in free and z[at] != MASK) for at in range(len(z))
        ]
        return share * np.array(weight) / max(sum(weight), 1e-300)

    return sigma


def process(name, free, settings):
    """The steps of a sampler, as its definition says."""
    length, num_steps = 4, settings.get("num_steps", 4)
    eta = settings.get("eta")
    t = 1.0 - np.arange(num_steps + 1) / num_steps
    clean = 1.0 - t if name in LINEAR else alpha(t)
    pairs = list(itertools.pairwise(clean))
    if name == "ancestral":
        return [reverse_step(*pair, free) for pair in pairs]
    if name in SCORES:
        return [best_step(SCORES[name], a_s, free) for _, a_s in pairs]
    if name == "threshold":
        return [sure_step(settings["threshold"])] * length
    if name == "remdm_cap":
        sigmas = [min(eta, sigma_max(*pair)) for pair in pairs]
    elif name == "remdm_rescale":
        sigmas = [eta * sigma_max(*pair) for pair in pairs]
    elif name == "remdm_conf":
        shares = [eta * sigma_max(*pair) for pair in pairs]
        return [
            reverse_step(*pair, free, doubt(share, free))
            for pair, share in zip(pairs, shares, strict=True)
        ]
    elif name == "remdm_loop":  # of the linear schedule
        on, off, high = (settings[field] for field in ("t_on", "t_off", "alpha_on"))
        a = np.where(t > on, high * (1 - t) / (1 - on), high)
        a = np.where(t < off, 1 - t * (1 - high) / off, a)
        pairs = list(zip(a[:-1], a[1:], strict=True))
        sigmas = [
            eta if (off <= s and t <= on) else 0.0 for t, s in itertools.pairwise(t)
        ]
    else:
        return blocks(settings, free, length)
    return [
        reverse_step(*pair, free, lambda z, psi, s=sigma: s)
        for pair, sigma in zip(pairs, sigmas, strict=True)
    ]


LINEAR = ("remdm_conf", "remdm_loop")  # where more is masked again
SCORES = {"confidence": confidence, "margin": margin, "entropy": entropy}


def blocks(settings, free, length):
    """Two blocks of two, one after the other, in each of which t falls from 1 to 0."""
    inner, size = settings["block_sampler"], settings["block_size"]
    if inner == "threshold":
        return [sure_step(settings["threshold"], size)] * length
    per_block = settings["num_steps"] // (length // size)
    steps = []
    for first in range(0, length, size):
        region = range(first, first + size)
        for j in range(per_block):
            a_t, a_s = alpha(1 - j / per_block), alpha(1 - (j + 1) / per_block)
            if inner == "ancestral":
                steps.append(reverse_step(a_t, a_s, free, region=region))
            else:
                steps.append(best_step(SCORES[inner], a_s, free, region))
    return steps


def laws_of(source, steps, z_1, heat=lambda i: 1.0, remembers=False):
    """The laws of every step, and {x: probability} at the end.

    Those of a step are of (z_t, where z_s is MASK) and of (z_t, what was masked again).

    Token probabilities are p^(1 / heat). Remasking leaves the law of each z_s as it is,
    whatever sigma is: only with z_t does it tell.

    psi is followed only where it is remembered: there are many more states with it.
    """
    law = {(z_1, (0.0,) * len(z_1)): 1.0}
    for i, step in enumerate(steps):
        after = defaultdict(float)
        moves, shuts = defaultdict(float), defaultdict(float)
        for (z, psi), weight in law.items():
            p = conditional(source, z)
            q = p ** (1.0 / heat(i)) if heat(i) else p == p.max(axis=-1, keepdims=True)
            q = q / q.sum(axis=-1, keepdims=True)
            for chance, opened, shut in step(z, psi, p):
                if not chance:
                    continue
                choices = (np.flatnonzero(q[at]) for at in opened)
                for tokens in itertools.product(*choices):
                    z_s, psi_s, total = list(z), list(psi), weight * chance
                    for at, token in zip(opened, tokens, strict=True):
                        z_s[at] = int(token)
                        psi_s[at] = round(p[at, token], 9) if remembers else 0.0
                        total *= q[at, token]
                    for at in shut:
                        z_s[at], psi_s[at] = MASK, 0.0
                    after[tuple(z_s), tuple(psi_s)] += total
                    moves[z + tuple(token == MASK for token in z_s)] += total
                    shuts[z + tuple(at in shut for at in range(len(z)))] += total
        law = after
        yield moves, shuts
    ends = defaultdict(float)
    for (z, _), weight in law.items():
        ends[z] += weight
    yield ends


def law_of(*args, **settings):
    """{x: probability} after the last step."""
    *_, last = laws_of(*args, **settings)
    return last


BLOCKS = {"num_steps": 4, "block_size": 2}
LOOP = {"num_steps": 6, "t_on": 0.7, "t_off": 0.2, "alpha_on": 0.6, "eta": 0.3}
CASES = [
    ("ancestral", {"num_steps": 3}),
    ("confidence", {"num_steps": 3}),
    ("margin", {"num_steps": 3}),
    ("entropy", {"num_steps": 3}),
    ("threshold", {"threshold": 0.6}),
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


def test_every_sampler_has_its_law_checked():
    """Those that are not enumerated here are exact, a preset, or the study's."""
    others = {"first_hitting", "careful", "study"}
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
    assert_law(draw_by("study", SOURCE, 8, (NUM, 4)), law)


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
