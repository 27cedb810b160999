"""The families that are compared, and what each reads of their one configuration."""

import dataclasses

import numpy as np

import ar_jax
import mdlm_jax
from lm_jax.app import Family
from lm_jax.config import Config, require
from lm_jax.language_model import LanguageModel
from lm_jax.types import EOS, MASK

FAMILIES: dict[str, Family] = {
    "AR": ar_jax.language_model,
    "MDLM": mdlm_jax.language_model,
}


def own_configs(cfg: Config) -> dict[str, Config]:
    """The configuration of each family by its label.

    Two things may differ between them: what `cfg.unequal` gives the model of one family
    alone, and the sampler. One that does not know the sampler that `cfg` names keeps
    its default; one that has a preset under that name has its own prompt. A fair
    comparison leaves `unequal` empty.

    Raises:
      ValueError: no family knows the sampler, or `unequal` names no family.
    """
    name = cfg.sample.sampler
    known = {label: family(cfg).samplers for label, family in FAMILIES.items()}
    require(
        not name or any(name in names for names in known.values()),
        f"SampleConfig.sampler={name!r} is unknown: choose one of "
        + "; ".join(f"{', '.join(names)} ({label})" for label, names in known.items()),
    )
    families = {family(cfg).name: label for label, family in FAMILIES.items()}
    strangers = cfg.unequal_families() - set(families)
    require(
        not strangers,
        f"Config.unequal={cfg.unequal!r} names no family: choose one of "
        + ", ".join(families),
    )
    default = dataclasses.replace(
        cfg, sample=dataclasses.replace(cfg.sample, sampler="")
    )
    return {
        label: (cfg if name in known[label] else default).of_family(family)
        for family, label in families.items()
    }


def can_look_ahead(lm: LanguageModel) -> bool:
    """Whether it can be given text behind a gap."""
    try:
        lm.check_template(np.array([[MASK, EOS]]))
    except ValueError:
        return False
    return True
