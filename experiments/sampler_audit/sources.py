"""Sources of text whose conditionals are exact, whichever tokens are masked.

A sampler that uses these conditionals in place of a network makes only the errors of
the sampler itself. A Markov chain has short memory: the conditional of a token depends
on the nearest visible token on each side. A hidden Markov model has long memory: the
conditional depends on every visible token.

Dimensions, beside those of lm_jax/types.py:

    C  symbols of a source    S  hidden states    V = NUM_NON_TEXT + C

Symbol c is the token id NUM_NON_TEXT + c. So EOS is symbol 0; it ends nothing here.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lm_jax.config import require
from lm_jax.keys import row_keys
from lm_jax.types import (
    NUM_NON_TEXT,
    Logits,
    Params,
    PRNGKey,
    SequenceNats,
    TimedLogitsFn,
    Times,
    Tokens,
)

Scalar = Float[Array, ""]

# float32 products on every device: a GPU would round the factors to TF32.
_matmul = partial(jnp.matmul, precision="highest")


class MarkovChain(NamedTuple):
    """A first-order Markov chain, p(x) = initial[x_1] prod_l transition[x_{l-1}, x_l].

    Attributes:
      initial: distribution of the first symbol.
      transition: distribution of the next symbol, one row for each symbol.
    """

    initial: Float[Array, " C"]
    transition: Float[Array, "C C"]

    @property
    def vocab_size(self) -> int:
        """V, special ids included."""
        return NUM_NON_TEXT + self.initial.shape[0]

    def sample(self, key: PRNGKey, num: int, length: int) -> Tokens:
        """`num` independent windows; row b draws from fold_in(key, b)."""

        def one(row_key: PRNGKey) -> Int[Array, " L"]:
            return _sample_chain(row_key, self.initial, self.transition, length)

        return NUM_NON_TEXT + jax.vmap(one)(row_keys(key, jnp.arange(num)))

    def log_p(self, x: Tokens) -> SequenceNats:
        """log p(x) of whole windows, in nats; -inf where a token is no symbol."""
        symbols, is_symbol = _symbols(x, self.vocab_size)
        first = jnp.log(self.initial)[symbols[:, 0]]
        later = jnp.log(self.transition)[symbols[:, :-1], symbols[:, 1:]]
        log_p = first + jnp.sum(later, axis=1)
        return jnp.where(jnp.all(is_symbol, axis=1), log_p, -jnp.inf)

    def conditionals(self, z: Tokens) -> Logits:
        """log p(x_l = v | visible tokens of z).

        With a < l < b the nearest visible positions and A the transition matrix,

            p(x_l = v | z) ~ (A^(l - a))[x_a, v] (A^(b - l))[v, x_b].

        The first factor is (initial A^l)[v], l counted from 0, where no token on the
        left is visible; the second is 1 where none on the right is. O(L C) a window,
        and O(L C^3) once for the powers.

        Returns:
          Normalised log-probabilities: -inf at ids that are no symbol. At a visible
          position 0 at its own token, -inf elsewhere. NaN where the visible tokens have
          probability 0. Every id that is no symbol counts as MASK.
        """
        length = z.shape[1]
        symbols, is_visible = _symbols(z, self.vocab_size)
        at = jnp.broadcast_to(jnp.arange(length), z.shape)
        left = jax.lax.cummax(jnp.where(is_visible, at, -1), axis=1)
        right = jnp.where(is_visible, at, length)
        right = jax.lax.cummin(right, axis=1, reverse=True)
        # Without a neighbour, a and b are any valid index: the factor is replaced.
        a, b = jnp.maximum(left, 0), jnp.minimum(right, length - 1)
        x_a = jnp.take_along_axis(symbols, a, axis=1)
        x_b = jnp.take_along_axis(symbols, b, axis=1)

        powers = _powers(self.transition, length)
        marginals = jnp.log(_matmul(self.initial, powers))
        log_powers = jnp.log(powers)
        # At a visible position a = b = l, and A^0 = I is one-hot.
        from_left = log_powers[at - a, x_a]
        from_left = jnp.where((left < 0)[..., None], marginals[None], from_left)
        from_right = jnp.swapaxes(log_powers, 1, 2)[b - at, x_b]
        from_right = jnp.where((right == length)[..., None], 0.0, from_right)
        return _with_special_ids(from_left + from_right)

    def entropy(self, length: int) -> Scalar:
        """H(x) / L of windows of L tokens, in nats per token.

        H(x) = H(initial) + sum_{l=0}^{L-2} sum_v (initial A^l)[v] H(A[v]).
        """
        marginals = _matmul(self.initial, _powers(self.transition, length))
        later = jnp.sum(_matmul(marginals[: length - 1], _entropy(self.transition)))
        return (_entropy(self.initial) + later) / length


class HiddenMarkov(NamedTuple):
    """A hidden Markov model: a Markov chain of states s, and a symbol for each state.

    p(x, s) = initial[s_1] prod_{l>1} transition[s_{l-1}, s_l] prod_l emission[s_l, x_l]

    Attributes:
      initial: distribution of the first state.
      transition: distribution of the next state, one row for each state.
      emission: distribution of the symbol, one row for each state.
    """

    initial: Float[Array, " S"]
    transition: Float[Array, "S S"]
    emission: Float[Array, "S C"]

    @property
    def vocab_size(self) -> int:
        """V, special ids included."""
        return NUM_NON_TEXT + self.emission.shape[1]

    def sample(self, key: PRNGKey, num: int, length: int) -> Tokens:
        """`num` independent windows; row b draws from fold_in(key, b)."""

        def one(row_key: PRNGKey) -> Int[Array, " L"]:
            state_key, symbol_key = jax.random.split(row_key)
            states = _sample_chain(state_key, self.initial, self.transition, length)
            return _categorical(symbol_key, jnp.log(self.emission)[states])

        return NUM_NON_TEXT + jax.vmap(one)(row_keys(key, jnp.arange(num)))

    def log_p(self, x: Tokens) -> SequenceNats:
        """log p(x) of whole windows, in nats; -inf where a token is no symbol.

        The sum of log p(x_l | x_{<l}), from the normalisers of the forward pass.
        """
        _, is_symbol = _symbols(x, self.vocab_size)
        _, log_p = self._forward(self._evidence(x))
        log_p = jnp.sum(log_p, axis=1)
        return jnp.where(jnp.all(is_symbol, axis=1), log_p, -jnp.inf)

    def conditionals(self, z: Tokens) -> Logits:
        """log p(x_l = v | visible tokens of z), by the forward-backward algorithm.

            p(x_l = v | z) = sum_s p(s_l = s | z) emission[s, v],
            p(s_l = s | z) ~ p(s_l = s | z_{<=l}) p(z_{>l} | s_l = s)

        for masked l; Rabiner 1989, doi:10.1109/5.18626. A masked position gives no
        evidence: its weight is 1 for every state. Both passes are normalised at every
        position, so that nothing underflows. O(L S (S + C)) a window.

        Returns:
          See `MarkovChain.conditionals`.
        """
        symbols, is_visible = _symbols(z, self.vocab_size)
        evidence = self._evidence(z)
        forward, _ = self._forward(evidence)
        posterior = _normalise(forward * self._backward(evidence))
        log_p = jnp.log(_matmul(posterior, self.emission))
        one_hot = jnp.log(jax.nn.one_hot(symbols, self.emission.shape[1]))
        return _with_special_ids(jnp.where(is_visible[..., None], one_hot, log_p))

    def _evidence(self, z: Tokens) -> Float[Array, "B L S"]:
        """p(z_l | s_l = s) where z_l is visible, else 1."""
        symbols, is_visible = _symbols(z, self.vocab_size)
        return jnp.where(is_visible[..., None], self.emission.T[symbols], 1.0)

    def _forward(
        self, evidence: Float[Array, "B L S"]
    ) -> tuple[Float[Array, "B L S"], Float[Array, "B L"]]:
        """p(s_l | z_{<=l}), and log p(z_l | z_{<l}): 0 where z_l is masked."""

        def step(predicted: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
            joint = predicted * weight
            total = jnp.sum(joint, axis=-1, keepdims=True)
            # A window of probability 0 has total 0 and log-probability -inf, not NaN.
            filtered = joint / jnp.where(total > 0.0, total, 1.0)
            return _matmul(filtered, self.transition), (filtered, jnp.log(total[:, 0]))

        start = jnp.broadcast_to(self.initial, evidence[:, 0].shape)
        _, found = jax.lax.scan(step, start, jnp.moveaxis(evidence, 1, 0))
        filtered, log_p = found
        return jnp.moveaxis(filtered, 0, 1), log_p.T

    def _backward(self, evidence: Float[Array, "B L S"]) -> Float[Array, "B L S"]:
        """p(z_{>l} | s_l = s), up to a factor for each position."""

        def step(after: Array, weight: Array) -> tuple[Array, Array]:
            before = _matmul(after * weight, self.transition.T)
            return _normalise(before), after

        start = jnp.ones_like(evidence[:, 0])
        _, backward = jax.lax.scan(
            step, start, jnp.moveaxis(evidence, 1, 0), reverse=True
        )
        return jnp.moveaxis(backward, 0, 1)


Source = MarkovChain | HiddenMarkov


def logits_fn(source: Source) -> TimedLogitsFn:
    """(params, z, t) -> exact conditionals, in the place of a network's logits."""

    def exact_logits(params: Params, z: Tokens, t: Times) -> Logits:
        del params, t  # the conditionals depend on the visible tokens alone
        return source.conditionals(z)

    return exact_logits


def estimate_entropy(
    source: Source, key: PRNGKey, num: int, length: int
) -> tuple[Scalar, Scalar]:
    """-E log p(x) / L in nats per token, from `num` windows, and its standard error.

    For hidden Markov models, whose entropy has no closed form.
    """
    nats = -source.log_p(source.sample(key, num, length)) / length
    return jnp.mean(nats), jnp.std(nats, ddof=1) / jnp.sqrt(num)


def random_chain(
    key: PRNGKey,
    num_symbols: int,
    concentration: float = 0.17,
    uniform_share: float = 0.03,
) -> MarkovChain:
    """A stationary Markov chain whose rows are random distributions.

    Args:
      key: key of the transition matrix.
      num_symbols: C.
      concentration: parameter of the symmetric Dirichlet distribution of each row. A
        small one gives rows with few likely symbols; 0.17 gives 1.6 nats per token on
        average for 16 symbols.
      uniform_share: weight of the uniform distribution that is mixed into each row.

    Raises:
      ValueError: a number is out of range.
    """
    shape = (num_symbols, num_symbols)
    transition = _random_rows(key, shape, concentration, uniform_share)
    return MarkovChain(stationary(transition), transition)


def random_hidden_markov(
    key: PRNGKey,
    num_states: int,
    num_symbols: int,
    concentration: float = 0.05,
    uniform_share: float = 0.03,
) -> HiddenMarkov:
    """A stationary hidden Markov model whose rows are random distributions.

    Args:
      key: key of the transition and emission matrices.
      num_states: S.
      num_symbols: C.
      concentration, uniform_share: see `random_chain`; for the rows of both matrices.
        0.05 gives 0.9 to 1.7 nats per token for 8 states and 16 symbols.

    Raises:
      ValueError: a number is out of range.
    """
    state_key, symbol_key = jax.random.split(key)
    states, symbols = (num_states, num_states), (num_states, num_symbols)
    transition = _random_rows(state_key, states, concentration, uniform_share)
    emission = _random_rows(symbol_key, symbols, concentration, uniform_share)
    return HiddenMarkov(stationary(transition), transition, emission)


def stationary(transition: Float[Array, "C C"]) -> Float[Array, " C"]:
    """The distribution m with m A = m, for a transition matrix A that has only one.

    m (I - A + E) = (1, ..., 1), with E the matrix of ones, as m E = (1, ..., 1).

    >>> m = stationary(jnp.array([[0.5, 0.5], [1.0, 0.0]]))
    >>> [round(float(p), 3) for p in m]
    [0.667, 0.333]
    """
    size = transition.shape[0]
    system = jnp.eye(size) - transition + 1.0
    return _normalise(jnp.linalg.solve(system.T, jnp.ones(size)))


def _random_rows(
    key: PRNGKey, shape: tuple[int, int], concentration: float, uniform_share: float
) -> Float[Array, "rows columns"]:
    """Rows of a Dirichlet distribution, each mixed with the uniform distribution."""
    require(
        min(shape) >= 2, f"a source of shape {shape}: at least 2 symbols and states"
    )
    require(concentration > 0.0, f"concentration={concentration} is not positive")
    require(
        0.0 < uniform_share <= 1.0,
        f"uniform_share={uniform_share} is not in (0, 1]: every window needs a "
        "probability above 0",
    )
    num_rows, size = shape
    rows = jax.random.dirichlet(key, jnp.full(size, concentration), (num_rows,))
    return _normalise((1.0 - uniform_share) * rows + uniform_share / size)


def _symbols(z: Tokens, vocab_size: int) -> tuple[Tokens, Bool[Array, "B L"]]:
    """The symbol of each token, and whether it is one; symbol 0 where it is none."""
    is_symbol = (z >= NUM_NON_TEXT) & (z < vocab_size)
    return jnp.where(is_symbol, z - NUM_NON_TEXT, 0), is_symbol


def _with_special_ids(log_p: Float[Array, "B L C"]) -> Logits:
    """Normalised log-probabilities of all ids; -inf at ids that are no symbol."""
    widths = ((0, 0), (0, 0), (NUM_NON_TEXT, 0))
    return jnp.pad(jax.nn.log_softmax(log_p), widths, constant_values=-jnp.inf)


def _powers(transition: Float[Array, "C C"], num: int) -> Float[Array, "{num} C C"]:
    """A^0, ..., A^(num - 1) by doubling: few operations, small rounding errors.

    Every row is normalised again, so that the errors do not accumulate.
    """
    powers = jnp.eye(transition.shape[0])[None]
    while len(powers) < num:
        shift = _matmul(powers[-1], transition)  # A^n, where n powers are known
        shifted = _matmul(powers, shift[None])
        powers = jnp.concatenate([powers, _normalise(shifted)])
    return powers[:num]


def _normalise(p: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
    return p / jnp.sum(p, axis=-1, keepdims=True)


def _entropy(p: Float[Array, "*B C"]) -> Float[Array, "*B"]:
    """H(p) of every row, in nats."""
    return jnp.sum(jax.scipy.special.entr(p), axis=-1)


# As in `decoding.draw`: the default noise never draws tokens with p below about 1e-7.
_categorical: Callable[[PRNGKey, Array], Array] = partial(
    jax.random.categorical, mode="high"
)


def _sample_chain(
    key: PRNGKey,
    initial: Float[Array, " C"],
    transition: Float[Array, "C C"],
    length: int,
) -> Int[Array, " L"]:
    """s_1 ~ initial, then s_l ~ transition[s_{l-1}]."""
    log_transition = jnp.log(transition)

    def step(logits: Array, i: Array) -> tuple[Array, Array]:
        s = _categorical(jax.random.fold_in(key, i), logits)
        return log_transition[s], s

    return jax.lax.scan(step, jnp.log(initial), jnp.arange(length))[1]
