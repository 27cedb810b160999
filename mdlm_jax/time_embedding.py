"""What the network is told of time: sinusoids, and what is learnt from them."""

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


def sinusoidal(t: Times, dim: int, scale: float = 1000.0) -> Float[Array, "B D"]:
    """sin and cos of scale * t * 10000^(-2 i / dim); after arXiv:1706.03762, sec. 3.5.

    The scale spreads t in [0, 1] over the range of the positions that the frequencies
    were made for (DiT has 1000); the study leaves it at 1.
    """
    half = dim // 2
    frequency = jnp.exp(-math.log(10_000.0) * jnp.arange(half) / half)
    angle = scale * t[:, None] * frequency[None, :]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class Additive(nn.Module):
    """Sinusoid, linear, SiLU: one vector, added to every token embedding.

    The linear layer starts at zero: an untrained vector would drown the embeddings.
    """

    cfg: ModelConfig

    @nn.compact
    def __call__(self, t: Times) -> Conditioning:
        features = sinusoidal(t, self.cfg.width, self.cfg.time_scale)
        dense = nn.Dense(self.cfg.width, kernel_init=nn.initializers.zeros)
        return Conditioning(shift=nn.silu(dense(features)))


class AdaLN(nn.Module):
    """Shift, scale and gate of every norm; Peebles and Xie 2022, arXiv:2212.09748.

    The last layer starts at zero and scale and gate are added to one, so that at first
    the backbone is the one that AR has.
    """

    cfg: ModelConfig

    @nn.compact
    def __call__(self, t: Times) -> Conditioning:
        cfg = self.cfg
        features = sinusoidal(t, cfg.width, cfg.time_scale)
        features = nn.silu(nn.Dense(cfg.width)(features))
        size = cfg.num_layers * NUM_MODULATIONS * cfg.width
        flat = nn.Dense(size, kernel_init=nn.initializers.zeros)(features)
        shape = (-1, cfg.num_layers, NUM_MODULATIONS, cfg.width)
        return Conditioning(modulation=flat.reshape(shape))


TIME_EMBEDDINGS: dict[str, type[nn.Module]] = {"additive": Additive, "adaln": AdaLN}


class TimeEmbedding(NamedTuple):
    """The time embedding as pure functions.

    Attributes:
      init: key -> {"time_embedding": params}, or {} where time is not told.
      apply: (all params, t) -> conditioning of the backbone.
    """

    init: Callable[[PRNGKey], Params]
    apply: Callable[[Params, Times], Conditioning]


def make_time_embedding(cfg: ModelConfig) -> TimeEmbedding:
    """The time embedding that the config names; Flax ends here.

    Raises:
      ValueError: the config names none that there is.
    """
    name = cfg.time_embedding
    if name == "none":
        return TimeEmbedding(lambda key: {}, lambda params, t: NOTHING)
    require(
        name in TIME_EMBEDDINGS,
        f"ModelConfig.time_embedding={name!r} is unknown: "
        f"choose one of {', '.join(map(repr, ['none', *TIME_EMBEDDINGS]))}",
    )
    module = TIME_EMBEDDINGS[name](cfg)

    def init(key: PRNGKey) -> Params:
        return {"time_embedding": module.init(key, jnp.zeros((1,)))["params"]}

    def apply(params: Params, t: Times) -> Conditioning:
        conditioning = module.apply({"params": params["time_embedding"]}, t)
        return cast(Conditioning, conditioning)

    return TimeEmbedding(init, apply)
