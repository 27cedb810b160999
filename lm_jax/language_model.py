"""The contract: a language model is a few pure functions."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from lm_jax.sampling.presets import Preset
from lm_jax.types import Params, PRNGKey, SampleOutput, SequenceNats, TokenNats, Tokens


class TokenScores(NamedTuple):
    """The predictions behind a score of texts, one a token.

    Attributes:
      nats: -log p of the true token, given what the prediction sees.
      confidence: the probability of the likeliest token.
      is_correct: whether that is the true one.
      weight: how often the prediction counts in the score; 0 where there is none. The
        expected sum of weight * nats over a row is its score, of weight its tokens.
      hidden_share: of the row's tokens that the prediction does not see, its own
        included.
    """

    nats: TokenNats
    confidence: Float[Array, "B L"]
    is_correct: Bool[Array, "B L"]
    weight: Float[Array, "B L"]
    hidden_share: Float[Array, "B L"]


class LanguageModel(NamedTuple):
    """A language model, as pure functions of explicit state; each can be jitted.

    Attributes:
      name: the family, e.g. "ar"; names run directories and rows of tables.
      is_bound: whether `log_likelihood` bounds log p(x) from below or is exact.
      flops_per_token: of one training step, forward and backward, per token.
      init: key -> params. Diffusion's extra parameters stand in "time_embedding".
      token_nll: (params, x, key, rows=None) -> nats per token, zero at PAD. It is the
        training loss; AR is exact, MDLM a random estimate whose expected sum bounds
        -log p(x) from above. `rows` says which rows of the batch x is (default: all).
      log_likelihood: (params, x, key, num_draws) -> (nats (B,), standard error (B,)).
        log p(x) of the text in each row (PAD is no text), or a lower bound on it.
        Row b draws from fold_in(key, b): pass a chunk's own key.
      sample: (params, key, (B, L), cfg, template=None, first_row=0, traced=False) ->
        `SampleOutput`. `template` holds the given tokens, and MASK where text is
        wanted; cfg is a `SampleConfig`; traced keeps the tokens after each step. Row b
        draws from fold_in(key, first_row + b), so the text of a row does not depend on
        the batch that it is drawn in.
      samplers: the names that cfg.sampler may have; the first is the default.
      presets: the settings that some of them bring along.
      check_template: raises ValueError for a template that it cannot honour.
      token_scores: optional; (params, x, key) -> TokenScores, one draw of them. Without
        it there is no calibration and no loss by position.
      orders: optional; by name, (params, x, key) -> log p(x) (B,) by the chain rule in
        that order, for models that have a choice of orders.
    """

    name: str
    is_bound: bool
    flops_per_token: float
    init: Callable[[PRNGKey], Params]
    token_nll: Callable[..., TokenNats]
    log_likelihood: Callable[
        [Params, Tokens, PRNGKey, int], tuple[SequenceNats, SequenceNats]
    ]
    sample: Callable[..., SampleOutput]
    samplers: tuple[str, ...] = ()
    presets: Mapping[str, Preset] = MappingProxyType({})
    check_template: Callable[[Int[np.ndarray, "B L"]], None] = lambda template: None
    token_scores: Callable[[Params, Tokens, PRNGKey], TokenScores] | None = None
    orders: Mapping[str, Callable[[Params, Tokens, PRNGKey], SequenceNats]] = (
        MappingProxyType({})
    )
