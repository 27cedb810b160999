"""Names of samplers, and the settings that some of them bring along."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from lm_jax.config import SampleConfig, require

NO_TRUNCATION: Mapping[str, Any] = MappingProxyType(
    {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
)


class Preset(NamedTuple):
    """What a sampler decides by itself, so that its name alone says how text is drawn.

    Attributes:
      settings: fields of SampleConfig, in place of whatever they are set to.
      prompt: how every text begins where no other prompt is given.
    """

    settings: Mapping[str, Any]
    prompt: str = ""


def resolve_sampler_config(
    cfg: SampleConfig, samplers: tuple[str, ...], presets: Mapping[str, Preset]
) -> SampleConfig:
    """The settings that are in force: the sampler is named and its preset applied.

    Args:
      cfg: its sampler "" is the first of the samplers.
      samplers: the names that a family knows.
      presets: of those samplers that have one.

    Raises:
      ValueError: the family knows no sampler of this name.
    """
    name = cfg.sampler or samplers[0]
    require(
        name in samplers,
        f"SampleConfig.sampler={name!r} is unknown: choose one of "
        f"{', '.join(map(repr, samplers))}",
    )
    settings = presets[name].settings if name in presets else {}
    return dataclasses.replace(cfg, sampler=name, **settings)
