"""Sources whose law is known, samplers of both families on them, and chi-squared."""

import itertools
from collections import defaultdict
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from oracle import Source
from scipy import stats

from ar_jax import sampling as ar
from lm_jax.config import SampleConfig
from lm_jax.types import EOS, MASK, NUM_NON_TEXT
from mdlm_jax import sampling as mdlm
from mdlm_jax.samplers.base import split_logits_fn
from mdlm_jax.schedule import linear

LEFT_TO_RIGHT = "left_to_right"  # AR's; its "vicentino2026" only has other settings
DIFFUSION = tuple(mdlm.samplers())


class Table(Source):
    """A source of a few words with an oracle for each family, read from a table.

    The oracles tempt: they give PAD, BOS, UNK and MASK the largest logits.
    """

    def __init__(self, length, first=EOS + 1, num_symbols=3, seed=0):
        super().__init__(num_symbols, length, seed)
        symbols = range(NUM_NON_TEXT, NUM_NON_TEXT + num_symbols)
        states = np.array(list(itertools.product((MASK, *symbols), repeat=length)))
        log_p = np.asarray(self.conditionals(jnp.asarray(states, jnp.int32)))
        self.log_p_of = np.full((len(states), length, 16), -np.inf, np.float32)
        self.log_p_of[:, :, first : first + num_symbols] = log_p[..., NUM_NON_TEXT:]
        self.log_p_of[..., :NUM_NON_TEXT] = 9.0
        self.x = self.x + first - NUM_NON_TEXT
        self.vocab_size = 16  # a power of two compiles faster
        self.first, self.base = first, num_symbols + 1

    def timed_logits(self, params, z_t, t):
        digit = jnp.where(z_t == MASK, 0, z_t - self.first + 1)
        place = self.base ** np.arange(z_t.shape[1])[::-1]
        return jnp.asarray(self.log_p_of)[jnp.sum(digit * place[None], axis=1)]

    def causal_logits(self, params, inputs):
        seen, length = jnp.roll(inputs, -1, axis=1), inputs.shape[1]
        at = jnp.arange(length)[None]
        columns = [
            self.timed_logits(params, jnp.where(at < here, seen, MASK), None)[:, here]
            for here in range(length)
        ]
        return jnp.stack(columns, axis=1)


def sampler(name, source, shape, alpha=linear, traced=False, **settings):
    """(key, template, first_row, truth) -> Written, by any sampler of either family.

    The source is a Table, or a plain logits_fn of the family.
    """
    cfg = SampleConfig(sampler=name, **{"grid": "", **settings})
    logits_fn: Any = source
    is_ar = name == LEFT_TO_RIGHT
    if isinstance(source, Table):
        logits_fn = source.causal_logits if is_ar else source.timed_logits
    if is_ar:
        one = partial(ar.sample, *ar.without_cache(logits_fn))
    else:
        one = partial(mdlm.sample, *split_logits_fn(logits_fn), alpha=alpha)

    def draw(key, template=None, first_row=0, truth=None):
        return one({}, key, shape, cfg, template, first_row, traced, truth)

    return draw


@cache  # tests that differ in arguments only share one compiled program
def program(*args, **settings):
    return jax.jit(sampler(*args, **settings))


def write_by(name, source, seed, shape, template=(MASK,), **settings):
    """What a sampler writes; one row of a template stands for all."""
    template = np.broadcast_to(np.array(template, np.int32), shape)
    return program(name, source, shape, **settings)(jax.random.key(seed), template)


def draw_by(*args, **settings):
    """The tokens of `write_by`."""
    return np.asarray(write_by(*args, **settings).tokens)


def assert_law(x, law):
    """Chi-squared of rows against {row: probability}; rare rows are counted as one.

    Some hundred of these are made, hence the small level; defects are far below it.
    """
    counts = defaultdict(int)
    for row in np.asarray(x):
        counts[tuple(row.tolist())] += 1
    assert set(counts) <= {row for row, p in law.items() if p > 0}
    assert abs(sum(law.values()) - 1.0) < 1e-6
    expected = np.array([len(x) * p for p in law.values()])
    observed = np.array([counts[row] for row in law])
    is_rare = expected < 5
    expected = np.append(expected[~is_rare], expected[is_rare].sum())
    observed = np.append(observed[~is_rare], observed[is_rare].sum())
    is_possible = expected > 0
    if is_possible.sum() > 1:  # else all is certain
        test = stats.chisquare(observed[is_possible], expected[is_possible])
        assert test.pvalue > 1e-4


def table(source):
    """{x: p(x)}"""
    return {tuple(x.tolist()): p for x, p in zip(source.x, source.p, strict=True)}


@cache
def conditional(source, z):
    """p(x_l = v | what z shows), (L, V), in float64."""
    fits = np.all((source.x == z) | (np.array(z) == MASK), axis=1)
    p = np.zeros((len(z), source.vocab_size))
    for x, weight in zip(source.x[fits], source.p[fits], strict=True):
        p[np.arange(len(z)), x] += weight
    return p / p.sum(axis=-1, keepdims=True)
