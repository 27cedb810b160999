"""The masked diffusion language model, from its configuration."""

from functools import partial

import jax
from jaxtyping import Array, Bool

from lm_jax.config import Config, require
from lm_jax.language_model import Diagnostics, Family, LanguageModel
from lm_jax.model.architectures import make_backbone
from lm_jax.model.flops import training_flops_per_token
from lm_jax.model.layers import Hidden
from lm_jax.model.transformer import Conditioning, with_dropout
from lm_jax.types import Logits, Params, PRNGKey, Rows, Times, TokenNats, Tokens
from mdlm_jax import likelihood, objective, sampling
from mdlm_jax.config import MDLMConfig
from mdlm_jax.forward_process import TIMES, masked_buffer_size
from mdlm_jax.objective import OBJECTIVES
from mdlm_jax.schedule import SCHEDULES
from mdlm_jax.time_embedding import make_time_embedding


def language_model(cfg: Config) -> LanguageModel:
    """A bidirectional backbone, a time embedding and the masking process."""
    backbone = make_backbone(cfg.model, causal=False)
    own: MDLMConfig = cfg.section("mdlm")
    alpha = _choose("schedule", own.schedule, SCHEDULES)
    time_embedding = make_time_embedding(own, cfg.model)
    times = _choose("times", own.times, TIMES)
    loss = _choose("objective", own.objective, OBJECTIVES)
    require(
        loss is objective.token_nll or cfg.train.accumulation == 1,
        f"objective='token_mean' needs accumulation=1, not "
        f"accumulation={cfg.train.accumulation}: it averages over all masks of a batch",
    )

    def init(key: PRNGKey) -> Params:
        params = {"backbone": backbone.init(jax.random.fold_in(key, 0))}
        return params | time_embedding.init(jax.random.fold_in(key, 1))

    def conditioning(params: Params, t: Times) -> Conditioning:
        vectors = time_embedding.apply(params, t)
        return vectors._replace(bos_at_start=own.bos_at_start)

    def logits_fn(params: Params, z_t: Tokens, t: Times) -> Logits:
        return backbone.logits(params["backbone"], z_t, conditioning(params, t))

    def nll_fn(
        params: Params,
        z_t: Tokens,
        x: Tokens,
        is_masked: Bool[Array, "B L"],
        t: Times,
        dropout_key: PRNGKey | None = None,
    ) -> TokenNats:
        gathers = own.head == "masked"
        size = masked_buffer_size(alpha, *x.shape) if gathers else None
        return backbone.nats(
            params["backbone"],
            z_t,
            x,
            is_masked,
            conditioning(params, t),
            dropout_key,
            size,
        )

    def hidden_fn(params: Params, z_t: Tokens, t: Times) -> Hidden:
        return backbone.hidden(params["backbone"], z_t, conditioning(params, t))

    def head_fn(params: Params, h: Hidden) -> Logits:
        return backbone.head(params["backbone"], h)

    def token_nll(
        params: Params, x: Tokens, key: PRNGKey, rows: Rows | None = None
    ) -> TokenNats:
        key, dropout_key = jax.random.split(key)
        trained_fn = with_dropout(nll_fn, cfg.model, dropout_key, rows)
        return loss(trained_fn, params, x, key, rows, alpha, times)

    return LanguageModel(
        is_bound=True,
        flops_per_token=training_flops_per_token(cfg.model, causal=False),
        init=init,
        token_nll=token_nll,
        log_likelihood=partial(likelihood.log_likelihood, logits_fn, alpha=alpha),
        sample=partial(sampling.sample, hidden_fn, head_fn, alpha=alpha),
        diagnostics=Diagnostics(
            partial(likelihood.token_scores, logits_fn, alpha=alpha)
        ),
    )


FAMILY = Family(
    name="mdlm",
    is_bound=True,
    can_infill=True,
    has_steps=True,
    samplers=sampling.samplers,
    build=language_model,
    order=sampling.order,
)


def _choose(field: str, name: str, choices: dict):
    require(
        name in choices,
        f"MDLMConfig.{field}={name!r} is unknown: "
        f"choose one of {', '.join(map(repr, choices))}",
    )
    return choices[name]
