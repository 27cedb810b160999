"""Random keys: every random stream of a run by name, and keys of rows and steps."""

import enum

import jax
from jaxtyping import Array, Int, Key

from lm_jax.types import PRNGKey, RowKeys


class Stream(enum.IntEnum):
    """The random streams of a run; each is fold_in(key(seed), stream).

    The order of the data and the corpus have seeds of their own, in NumPy and grain.
    """

    INIT = 0  # parameters
    STEPS = 1  # masks, times and dropout of training steps
    VALIDATION = 2  # draws of the learning curve
    SCORING = 3  # draws of the final evaluation
    SAMPLING = 4  # samples
    SAMPLE_LIKELIHOOD = 5  # draws of the likelihood of samples
    PREVIEW = 6  # samples drawn while training
    SAMPLER_LIKELIHOOD = 7  # orders of replayed text


class ScoringStream(enum.IntEnum):
    """Parts of `Stream.SCORING`; the score itself uses the stream's own key."""

    DRAWS = 1  # bounds with fewer draws
    TOKENS = 2  # predictions of tokens


def stream(seed: int, name: Stream) -> PRNGKey:
    """Key of a random stream."""
    return jax.random.fold_in(jax.random.key(seed), name.value)


def row_keys(key: PRNGKey, index: Int[Array, " B"]) -> RowKeys:
    """fold_in(key, row) for every row, so that no draw depends on the batch's shape."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def fold_in_each(keys: Key[Array, "*B"], number: Int[Array, ""]) -> Key[Array, "*B"]:
    """fold_in(key, number) for every key: the keys of a step or of a position."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
