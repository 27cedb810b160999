"""The contract: a language model is a few pure functions, and a family makes them."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from numpy import ndarray

from lm_jax.config import Config, SampleConfig, require
from lm_jax.devices import resolve_auto
from lm_jax.types import (
    Params,
    PRNGKey,
    Rows,
    SampleOutput,
    SequenceNats,
    TokenNats,
    Tokens,
)


class TokenNLL(Protocol):
    """Training loss in nats per token, zero at PAD.

    It is exact for AR. For MDLM it is a random estimate; the expectation of its sum
    bounds -log p(x) from above.
    """

    def __call__(
        self, params: Params, x: Tokens, key: PRNGKey, rows: Rows | None = None
    ) -> TokenNats:
        """`rows`: indices of x's rows in the whole batch; default: all of them."""
        ...


class LogLikelihood(Protocol):
    """log p(x) of the text in each row (PAD is no text), or a lower bound on it."""

    def __call__(
        self,
        params: Params,
        x: Tokens,
        key: PRNGKey,
        num_draws: int,
        num_given: Int[Array, " B"] | None = None,
    ) -> tuple[SequenceNats, SequenceNats]:
        """Nats and their standard error; row b draws from fold_in(key, b).

        With `num_given`, the first n = num_given[b] tokens of row b are given, and the
        score is log p(x_{n+1}, x_{n+2}, ... | x_1, ..., x_n).
        """
        ...


def is_given(x: Tokens, num_given: Int[Array, " B"]) -> Bool[Array, "B L"]:
    """Whether a token is among the first num_given[b] of its row b."""
    return jnp.arange(x.shape[1])[None] < num_given[:, None]


class Sample(Protocol):
    """Samples rows of text.

    Row b draws from fold_in(key, first_row + b), so that its text does not depend on
    the batch. Where rows are not numbered one after another, first_row has an entry
    for each row, and row b draws from fold_in(key, first_row[b] + b).
    """

    def __call__(
        self,
        params: Params,
        key: PRNGKey,
        shape: tuple[int, int],
        cfg: SampleConfig,
        template: Int[Array, "B L"] | Int[ndarray, "B L"] | None = None,
        first_row: int | Int[Array, ""] | Int[Array, " B"] = 0,
        traced: bool = False,
        truth: Tokens | None = None,
    ) -> SampleOutput:
        """`template` holds the given tokens, and MASK where text is wanted; `traced`
        keeps the tokens after each step. With `truth`, its tokens are written where
        others would be drawn: `log_p` of the output is then about this text. Positions
        where it has MASK stay masked."""
        ...


class TokenScores(NamedTuple):
    """Predictions behind a score of texts, one for each token.

    Attributes:
      nats: -log p of the true token, given what the prediction sees.
      confidence: probability of the likeliest token.
      is_correct: whether that is the true token.
      weight: weight of the prediction in the score; 0 where there is none. Summed
        over a row, the expectation of weight * nats is its score, and the expectation
        of weight its number of tokens.
      hidden_share: share of the row's tokens hidden from the prediction, counting the
        predicted token.
    """

    nats: TokenNats
    confidence: Float[Array, "B L"]
    is_correct: Bool[Array, "B L"]
    weight: Float[Array, "B L"]
    hidden_share: Float[Array, "B L"]


class Diagnostics(NamedTuple):
    """Optional details of a likelihood.

    Attributes:
      token_scores: (params, x, key) -> one draw of the predictions. Needed for
        calibration and for the loss by position.
    """

    token_scores: Callable[[Params, Tokens, PRNGKey], TokenScores]


class LanguageModel(NamedTuple):
    """A language model, as pure functions of explicit state; each can be jitted.

    Attributes:
      is_bound: whether `log_likelihood` is a lower bound; else it is exact.
      flops_per_token: FLOPs of one training step, forward and backward, per token.
      init: key -> params. Diffusion's extra parameters stand in "time_embedding".
      token_nll, log_likelihood, sample: see the protocols above.
      diagnostics: optional; see `Diagnostics`.
    """

    is_bound: bool
    flops_per_token: float
    init: Callable[[PRNGKey], Params]
    token_nll: TokenNLL
    log_likelihood: LogLikelihood
    sample: Sample
    diagnostics: Diagnostics | None = None


class Order(NamedTuple):
    """The order in which a sampler writes tokens.

    Attributes:
      is_random: whether it is drawn; else it depends on visible tokens alone.
      block_size: tokens per block that is complete before the next one begins; 0 if the
        window is not divided.
    """

    is_random: bool
    block_size: int = 0


class Preset(NamedTuple):
    """Settings that belong to a sampler's name; they override those of the user.

    Attributes:
      settings: fields of SampleConfig.
      prompt: prompt of every sample where no other is given.
    """

    settings: Mapping[str, Any] = MappingProxyType({})
    prompt: str = ""


NO_TRUNCATION: Mapping[str, Any] = MappingProxyType(
    {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
)


def resolve_sampler_config(
    cfg: SampleConfig, samplers: Mapping[str, Preset]
) -> SampleConfig:
    """Fills in the default sampler, and applies the preset of the sampler.

    Args:
      cfg: settings; its sampler "" is the first of the samplers.
      samplers: preset of every sampler by name.

    Raises:
      ValueError: there is no sampler of this name.
    """
    name = cfg.sampler or next(iter(samplers))
    require(
        name in samplers,
        f"SampleConfig.sampler={name!r} is unknown: choose one of "
        f"{', '.join(map(repr, samplers))}",
    )
    return dataclasses.replace(cfg, sampler=name, **samplers[name].settings)


def _no_order(cfg: SampleConfig, length: int) -> Order:
    raise ValueError(
        f"SampleConfig.sampler={cfg.sampler!r} has no likelihood: its family does not "
        "say in which order it writes tokens"
    )


class Family(NamedTuple):
    """A family of language models; all but `build` is known without a model.

    Attributes:
      name: short name, e.g. "ar"; it names run directories and rows of tables. The
        package <name>_jax has the family as `FAMILY`.
      is_bound: whether its likelihood is a lower bound; else it is exact.
      can_infill: whether it can condition on text after a gap.
      has_steps: whether its samplers have a number of steps.
      samplers: () -> the preset of every sampler by name; the first is the default.
      build: config without "auto" -> language model.
      order: (settings of a sampler, length) -> the order of its tokens. If it is
        random, the likelihood of a text has a bracket, else it is exact. Raises
        ValueError for a sampler that has neither.
    """

    name: str
    is_bound: bool
    can_infill: bool
    has_steps: bool
    samplers: Callable[[], Mapping[str, Preset]]
    build: Callable[[Config], LanguageModel]
    order: Callable[[SampleConfig, int], Order] = _no_order

    def make(self, cfg: Config) -> LanguageModel:
        """The language model of a config for the devices of JAX; see `resolve_auto`."""
        return self.build(resolve_auto(cfg.of_family(self.name)))

    def resolve(self, cfg: SampleConfig) -> SampleConfig:
        """See `resolve_sampler_config`."""
        return resolve_sampler_config(cfg, self.samplers())


def load_family(name: str) -> Family:
    """The family of this name: `FAMILY` of the package <name>_jax.

    Raises:
      ValueError: there is no such package, or it has no FAMILY.
    """
    try:
        return importlib.import_module(f"{name}_jax").FAMILY
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"the family {name!r} cannot be imported ({error}): install the package "
            f"{name}_jax, whose FAMILY it is"
        ) from None
