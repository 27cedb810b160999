"""Makes the autoregressive language model from its configuration."""

from functools import partial
from typing import Any

import jax
from jaxtyping import Array

from ar_jax import likelihood, objective, sampling
from lm_jax.config import Config
from lm_jax.language_model import Diagnostics, Family, LanguageModel
from lm_jax.model.architectures import make_backbone
from lm_jax.model.flops import training_flops_per_token
from lm_jax.model.transformer import with_dropout
from lm_jax.types import Logits, Params, PRNGKey, Rows, TokenNats, Tokens


def language_model(cfg: Config) -> LanguageModel:
    """The language model: a causal transformer and the chain rule."""
    backbone = make_backbone(cfg.model, causal=True)

    def init(key: PRNGKey) -> Params:
        return {"backbone": backbone.init(jax.random.fold_in(key, 0))}

    def logits_fn(params: Params, inputs: Tokens) -> Logits:
        return backbone.logits(params["backbone"], inputs)

    def nll_fn(params: Params, *args: Array, **kwargs: Any) -> TokenNats:
        return backbone.nats(params["backbone"], *args, **kwargs)

    def token_nll(
        params: Params, x: Tokens, key: PRNGKey, rows: Rows | None = None
    ) -> TokenNats:
        key, dropout_key = jax.random.split(key)
        trained_fn = with_dropout(nll_fn, cfg.model, dropout_key, rows)
        return objective.token_nll(trained_fn, params, x, key, rows)

    def decode(params: Params, *args):
        return backbone.decode(params["backbone"], *args)

    return LanguageModel(
        is_bound=False,
        flops_per_token=training_flops_per_token(cfg.model, causal=True),
        init=init,
        token_nll=token_nll,
        log_likelihood=partial(likelihood.log_likelihood, logits_fn),
        sample=partial(sampling.sample, backbone.init_cache, decode),
        diagnostics=Diagnostics(partial(likelihood.token_scores, logits_fn)),
    )


FAMILY = Family(
    name="ar",
    is_bound=False,
    can_infill=False,
    has_steps=False,
    samplers=sampling.samplers,
    build=language_model,
    order=sampling.order,
)
