"""A source whose every probability is known: a table over all sequences.

It stands in the network's place, so that objectives, likelihoods and samplers can be
checked against enumeration.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from lm_jax.model.nll import token_cross_entropy
from lm_jax.types import MASK, NUM_NON_TEXT, PAD


class Source:
    """p(x) over all x in {4, ..., 4 + V - 1}^L, correlated at random.

    Attributes:
      x: every sequence, (V^L, L).
      p: its probability, (V^L,).
    """

    def __init__(self, num_symbols: int, length: int, seed: int = 0):
        symbols = range(NUM_NON_TEXT, NUM_NON_TEXT + num_symbols)
        self.vocab_size = NUM_NON_TEXT + num_symbols
        self.x = np.array(list(itertools.product(symbols, repeat=length)), np.int32)
        rng = np.random.default_rng(seed)
        self.p = rng.dirichlet(np.full(len(self.x), 0.3))

    def conditionals(self, visible, position=None):
        """log p(x_l = v | visible), (B, L, V); MASK and PAD are not visible."""
        x, p = jnp.asarray(self.x), jnp.asarray(self.p, jnp.float32)
        hidden = (visible == MASK) | (visible == PAD)
        fits = ((x[None] == visible[:, None]) | hidden[:, None]).all(-1)  # (B, S)
        one_hot = jax.nn.one_hot(x, self.vocab_size)
        weight = jnp.einsum("bs,s,slv->blv", fits.astype(jnp.float32), p, one_hot)
        return jnp.log(weight / weight.sum(-1, keepdims=True))

    def timed_logits(self, params, z_t, t):
        """The oracle of MDLM: exact conditionals of what is masked."""
        return self.conditionals(z_t)

    def causal_logits(self, params, inputs):
        """The oracle of AR: logits[:, l] = log p(x_l | x_1, ..., x_{l-1})."""
        length = inputs.shape[1]
        columns = []
        for position in range(length):
            seen = jnp.roll(inputs, -1, axis=1)  # drops BOS: now seen[:, l] = x_l
            visible = jnp.where(jnp.arange(length)[None] < position, seen, MASK)
            columns.append(self.conditionals(visible)[:, position])
        return jnp.stack(columns, axis=1)

    def log_p(self, x):
        """log p of each row."""
        index = {tuple(row): i for i, row in enumerate(self.x)}
        return np.log([self.p[index[tuple(row)]] for row in np.asarray(x)])


def biased_logits(params, z_t, t):
    """Wrong, but a function of z_t alone: every visible token counts, by position.

    For a source of three symbols and four positions.
    """
    size = NUM_NON_TEXT + 3
    table = jax.random.normal(jax.random.key(7), (4, size, 4, size))
    seen = jax.nn.one_hot(z_t, size)
    return jnp.einsum("blv,lvmw->bmw", seen, table)


def any_order_nll(logits_fn, x, num_given=0):
    """The average over all orders of the chain rule's -log p(x), exactly.

    The first num_given tokens are given, and the orders are those of the rest.
    """
    length = x.shape[1]
    total = np.zeros(len(x))
    orders = list(itertools.permutations(range(num_given, length)))
    for order in orders:
        z = np.full(x.shape, MASK)
        z[:, :num_given] = x[:, :num_given]
        for position in order:
            logits = logits_fn({}, jnp.asarray(z), jnp.zeros(len(x)))
            nats = token_cross_entropy(logits, jnp.asarray(x))
            total += np.asarray(nats)[:, position]
            z[:, position] = x[:, position]
    return total / len(orders)
