"""Array types, and the dimension names used in every signature.

    B  batch            L  sequence length    V  vocabulary (special ids included)
    D  model width      H  heads              K  head width, D = H * K
    F  feed-forward     N  layers             T  sampling steps

The first four token ids are never text: every head gives them probability zero. EOS
ends a document and is predicted like any other token.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt16
from numpy import ndarray

PAD, BOS, UNK, MASK, EOS = range(5)
NUM_NON_TEXT = 4  # ids below are PAD, BOS, UNK and MASK; ids from here on are text

PRNGKey = Key[Array, ""]
RowKeys = Key[Array, " B"]
Params = Any  # a pytree of arrays; Any, as it also holds shapes and shardings
Tokens = Int[Array, "B L"]
Logits = Float[Array, "B L V"]
TokenNats = Float[Array, "B L"]  # one number per token, in nats
SequenceNats = Float[Array, " B"]  # one number per sequence, in nats
Times = Float[Array, " B"]  # diffusion time t in [0, 1]; 0 is clean, 1 is all MASK
Windows = UInt16[ndarray, "N L"]  # packed training text on the host

LogitsFn = Callable[[Params, Tokens], Logits]
TimedLogitsFn = Callable[[Params, Tokens, Times], Logits]
# (params, inputs, x, is_scored, *time) -> -log p(x_l | inputs) where scored, else 0
NllFn = Callable[..., TokenNats]


class Rows(NamedTuple):
    """The row indices of a part of a batch: noise depends on the row, not the device.

    Attributes:
      index: index of each row in the whole batch, over devices and microbatches.
      total: number of rows in the whole batch.
    """

    index: Int[Array, " B"]
    total: int

    @classmethod
    def of(cls, x: Tokens) -> "Rows":
        """All rows of a whole batch."""
        return cls(jnp.arange(x.shape[0]), x.shape[0])


class SampleOutput(NamedTuple):
    """The output of a sampler: tokens, unmasking steps and network calls.

    Attributes:
      tokens: whole windows of tokens.
      unmask_step: step at which each token was sampled; -1 where it was given.
        Positions after the end of a left-to-right sample have the step of that end.
      nfe: number of network calls for this batch.
      nfe_per_row: number of network calls that each row would need alone.
      history: tokens after each step, MASK where still masked; None unless requested.
      log_p: log-probability with which each token was drawn, after temperature and
        truncation; 0 where it was given.
    """

    tokens: Tokens
    unmask_step: Tokens
    nfe: Int[Array, ""]
    nfe_per_row: Int[Array, " B"]
    history: Int[Array, "T B L"] | None = None
    log_p: Float[Array, "B L"] | None = None
