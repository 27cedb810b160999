"""Samplers of diffusion as processes, followed state by state in float64.

With few steps the law of a sampler is not that of the source, but it is known from its
definition. This code shares nothing with the samplers.
"""

import itertools
from collections import defaultdict

import numpy as np
from sampler_distributions import conditional

from lm_jax.types import MASK


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


def budget_step(budget):
    """The longest list of places by entropy whose sum without the last is in budget."""

    def step(z, psi, p):
        order = sorted(masked(z), key=lambda at: -entropy(p[at]))
        spent = np.cumsum([0.0, *(-entropy(p[at]) for at in order)])
        yield 1.0, [at for at, h in zip(order, spent, strict=False) if h <= budget], []

    return step


def spread_step(a_s, free):
    """The next places of the list 0, 2, 1, 3, until so many are left."""

    def step(z, psi, p):
        closed = [at for at in (0, 2, 1, 3) if z[at] == MASK]
        num_open = max(len(closed) - round((1.0 - a_s) * len(free)), 0)
        yield 1.0, closed[:num_open], []

    return step


def shuffled_step(a_s, free):
    """As many places as are due, each set of them equally likely."""

    def step(z, psi, p):
        closed = [at for at in range(len(z)) if z[at] == MASK]
        num_open = max(len(closed) - round((1.0 - a_s) * len(free)), 0)
        sets = list(itertools.combinations(closed, num_open))
        for places in sets:
            yield 1.0 / len(sets), list(places), []

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
    if name == "eb":
        return [budget_step(settings["entropy_bound"])] * length
    if name in FIXED_NUMBERS:
        return [FIXED_NUMBERS[name](a_s, free) for _, a_s in pairs]
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
FIXED_NUMBERS = {"spread": spread_step, "shuffled": shuffled_step}
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
