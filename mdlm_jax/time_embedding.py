"""Time embeddings: sinusoids, and layers that turn them into conditioning."""

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lm_jax.config import ModelConfig, require
from lm_jax.model.layers import NUM_MODULATIONS
from lm_jax.model.transformer import NOTHING, Conditioning
from lm_jax.types import Params, PRNGKey, Times
from mdlm_jax.config import MDLMConfig
from mdlm_jax.schedule import SCHEDULES


def sinusoidal(t: Times, dim: int, scale: float = 1000.0) -> Float[Array, "B D"]:
    """sin and cos of scale * t * 10000^(-2 i / dim); after arXiv:1706.03762, sec. 3.5.

    The scale maps t in [0, 1] to the range of positions for which the frequencies were
    designed (1000 in DiT); arXiv:2603.22075 has 1.
    """
    half = dim // 2
    frequency = jnp.exp(-math.log(10_000.0) * jnp.arange(half) / half)
    angle = scale * t[:, None] * frequency[None, :]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class Additive(nn.Module):
    """SiLU(linear(sinusoids)): one vector, added to every token embedding.

    The linear layer starts at zero, as an untrained vector would dominate the
    embeddings.
    """

    own: MDLMConfig
    cfg: ModelConfig

    @nn.compact
    def __call__(self, t: Times) -> Conditioning:
        features = sinusoidal(t, self.cfg.width, self.own.time_scale)
        dense = nn.Dense(self.cfg.width, kernel_init=nn.initializers.zeros)
        return Conditioning(shift=nn.silu(dense(features)))


class AdaLN(nn.Module):
    """Shift, scale and gate of every norm; Peebles and Xie 2022, arXiv:2212.09748.

    The last layer starts at zero, and scale and gate are added to one, so that the
    untrained backbone equals that of AR.
    """

    own: MDLMConfig
    cfg: ModelConfig

    @nn.compact
    def __call__(self, t: Times) -> Conditioning:
        cfg = self.cfg
        features = sinusoidal(t, cfg.width, self.own.time_scale)
        features = nn.silu(nn.Dense(cfg.width)(features))
        size = cfg.num_layers * NUM_MODULATIONS * cfg.width
        flat = nn.Dense(size, kernel_init=nn.initializers.zeros)(features)
        shape = (-1, cfg.num_layers, NUM_MODULATIONS, cfg.width)
        return Conditioning(modulation=flat.reshape(shape))


TIME_EMBEDDINGS: dict[str, type[nn.Module]] = {"additive": Additive, "adaln": AdaLN}


def sigma(alpha_t: Times) -> Times:
    """-log(eps + (1 - eps) alpha_t), eps = 0.001: the noise level of a published DiT.

    It is -log alpha_t for networks that were trained with that share of the tokens left
    unmasked at t = 1; Lou et al. 2023, arXiv:2310.16834, and `schedule.log_linear`.
    """
    return -jnp.log(1e-3 + (1.0 - 1e-3) * alpha_t)


class TimeEmbedding(NamedTuple):
    """The time embedding as pure functions.

    Attributes:
      init: key -> {"time_embedding": params}, or {} without a time embedding.
      apply: (all params, t) -> conditioning of the backbone.
    """

    init: Callable[[PRNGKey], Params]
    apply: Callable[[Params, Times], Conditioning]


def make_time_embedding(own: MDLMConfig, cfg: ModelConfig) -> TimeEmbedding:
    """The time embedding that the configuration names, as pure functions.

    Raises:
      ValueError: the name is unknown.
    """
    name = own.time_embedding
    if name == "none":
        return TimeEmbedding(lambda key: {}, lambda params, t: NOTHING)
    if name == "sigma":
        alpha = SCHEDULES[own.schedule]
        return TimeEmbedding(
            lambda key: {}, lambda params, t: Conditioning(sigma=sigma(alpha(t)))
        )
    require(
        name in TIME_EMBEDDINGS,
        f"MDLMConfig.time_embedding={name!r} is unknown: "
        f"choose one of {', '.join(map(repr, ['none', 'sigma', *TIME_EMBEDDINGS]))}",
    )
    module = TIME_EMBEDDINGS[name](own, cfg)

    def init(key: PRNGKey) -> Params:
        return {"time_embedding": module.init(key, jnp.zeros((1,)))["params"]}

    def apply(params: Params, t: Times) -> Conditioning:
        conditioning = module.apply({"params": params["time_embedding"]}, t)
        return cast(Conditioning, conditioning)

    return TimeEmbedding(init, apply)
