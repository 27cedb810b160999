"""Tiny language models, batches and stories, so that no test needs real ones."""

from collections.abc import Callable
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np

from lm_jax.config import Config
from lm_jax.data.batches import train_batches
from lm_jax.keys import row_keys
from lm_jax.language_model import Family, LanguageModel, Preset, is_given
from lm_jax.types import PAD, Rows, SampleOutput, Tokens

LENGTH, VOCAB = 6, 11


def bigram(vocab_size: int = VOCAB) -> LanguageModel:
    """log p(x_l | x_{l-1}) from a table: exact, so the key is not used."""

    def token_nll(
        params: Any, x: Tokens, key: Any, rows: Rows | None = None
    ) -> jax.Array:
        del key, rows
        return _bigram_nll(params, x)

    return _language_model(token_nll, vocab_size)


def noisy_bigram() -> LanguageModel:
    """The bigram's loss under noise: one draw a batch, one a row and one a token."""

    def token_nll(
        params: Any, x: Tokens, key: Any, rows: Rows | None = None
    ) -> jax.Array:
        rows = Rows.of(x) if rows is None else rows
        key_batch, key_row = jax.random.split(key)
        t = (jax.random.uniform(key_batch) + rows.index / rows.total) % 1.0
        keys = row_keys(key_row, rows.index)
        masks = jax.vmap(lambda k, p: jax.random.bernoulli(k, p, (x.shape[1],)))(
            keys, t
        )
        return jnp.where(masks, 2.0 * _bigram_nll(params, x), 0.0)

    return _language_model(token_nll, VOCAB)


def build(cfg: Config) -> LanguageModel:
    """The smallest model that can be validated: the bigram of a config."""

    def log_likelihood(
        params: Any, x: Tokens, key: Any, num_draws: int, num_given: Any = None
    ) -> Any:
        del key, num_draws
        nll = _bigram_nll(params, x)
        if num_given is not None:
            nll = jnp.where(is_given(x, num_given), 0.0, nll)
        return -nll.sum(axis=1), jnp.zeros(len(x))

    return bigram(cfg.model.vocab_size)._replace(log_likelihood=log_likelihood)


FAMILY = Family(
    name="bigram",
    is_bound=False,
    can_infill=False,
    has_steps=False,
    samplers=lambda: {"unused": Preset()},
    build=build,
)


def writer(text: Callable[[Any, Any], Any], name: str = "ar") -> Family:
    """A family whose every row is text(its own key, l) for the positions l."""

    def build_writer(cfg: Config) -> LanguageModel:
        def sample(params, key, shape, cfg, template=None, first_row=0, traced=False):
            del params, cfg, template
            keys = row_keys(key, first_row + jnp.arange(shape[0]))
            x = jax.vmap(lambda k: text(k, jnp.arange(shape[1])))(keys)
            unmask_step = jnp.broadcast_to(jnp.arange(shape[1]), shape)
            history = jnp.broadcast_to(x, (shape[1], *shape)) if traced else None
            calls = jnp.ones(shape[0], jnp.int32)
            return SampleOutput(x, unmask_step, jnp.int32(1), calls, history)

        return build(cfg)._replace(sample=sample)

    return FAMILY._replace(name=name, build=build_writer)


def windows(num_windows: int = 64, seed: int = 0) -> np.ndarray:
    """Random text; every third window ends in PAD, so that rows weigh differently."""
    x = np.random.default_rng(seed).integers(4, VOCAB, (num_windows, LENGTH))
    x[::3, LENGTH // 2 :] = PAD
    return x.astype(np.uint16)


def batches(batch_size: int = 4, seed: int = 0) -> grain.DatasetIterator:
    """Windows without end, in the order that training has."""
    return train_batches(windows(), batch_size, seed)


def random_stories(num_stories, num_words, vocabulary_size, seed=0, power=0.0):
    """Stories of equal length; word k has probability ~ (k + 1)^-power."""
    rng = np.random.default_rng(seed)
    p = np.arange(1.0, vocabulary_size + 1) ** -power
    x = rng.choice(vocabulary_size, (num_stories, num_words), p=p / p.sum())
    return [" ".join(f"w{word}" for word in row) for row in x]


def _bigram_nll(params: Any, x: Tokens) -> jax.Array:
    logits = params["bigram"]["table"][jnp.pad(x, ((0, 0), (1, 0)))[:, :-1]]
    log_p = jax.nn.log_softmax(logits + params["bias"][None, None])
    nll = -jnp.take_along_axis(log_p, x[..., None], axis=-1)[..., 0]
    return jnp.where(x == PAD, 0.0, nll)


def _language_model(token_nll: Any, vocab_size: int) -> LanguageModel:
    def init(key: Any) -> Any:
        table = 0.1 * jax.random.normal(key, (vocab_size, vocab_size))
        return {"bigram": {"table": table}, "bias": jnp.zeros(vocab_size)}

    def unused(*_: Any, **__: Any) -> Any:
        raise NotImplementedError

    return LanguageModel(
        is_bound=False,
        flops_per_token=100.0,
        init=init,
        token_nll=token_nll,
        log_likelihood=unused,
        sample=unused,
    )
