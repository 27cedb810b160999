"""The model families, and the configuration of each within a common one."""

import dataclasses

import ar_jax
import mdlm_jax
from lm_jax.config import Config, require
from lm_jax.language_model import Family

FAMILIES: dict[str, Family] = {
    "AR": ar_jax.FAMILY,
    "MDLM": mdlm_jax.FAMILY,
}


def own_configs(cfg: Config) -> dict[str, Config]:
    """The configuration of each family by its label.

    Two things may differ between families: the fields of `cfg.family_overrides` for
    one family, and the sampler. A family without the sampler that `cfg` names uses its
    default; a preset of that name may have its own prompt. A fair comparison leaves
    `family_overrides` empty.

    Raises:
      ValueError: if no family has the sampler, or if an override names no family.
    """
    name = cfg.sample.sampler
    known = {label: tuple(family.samplers()) for label, family in FAMILIES.items()}
    require(
        not name or any(name in names for names in known.values()),
        f"SampleConfig.sampler={name!r} is unknown: choose one of "
        + "; ".join(f"{', '.join(names)} ({label})" for label, names in known.items()),
    )
    families = {family.name: label for label, family in FAMILIES.items()}
    unknown = set(cfg.family_overrides) - set(families)
    require(
        not unknown,
        f"Config.family_overrides names no family with {sorted(unknown)}: choose from "
        + ", ".join(families),
    )
    default = dataclasses.replace(
        cfg, sample=dataclasses.replace(cfg.sample, sampler="")
    )
    return {
        label: (cfg if name in known[label] else default).of_family(family)
        for family, label in families.items()
    }
