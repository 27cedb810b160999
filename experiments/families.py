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

    Two things may differ between families: the model fields that `cfg.unequal` sets for
    one family, and the sampler. A family without the sampler that `cfg` names uses its
    default; a preset of that name may have its own prompt. A fair comparison leaves
    `unequal` empty.

    Raises:
      ValueError: if no family has the sampler, or if `unequal` names no family.
    """
    name = cfg.sample.sampler
    known = {label: tuple(family.samplers()) for label, family in FAMILIES.items()}
    require(
        not name or any(name in names for names in known.values()),
        f"SampleConfig.sampler={name!r} is unknown: choose one of "
        + "; ".join(f"{', '.join(names)} ({label})" for label, names in known.items()),
    )
    families = {family.name: label for label, family in FAMILIES.items()}
    unknown = cfg.unequal_families() - set(families)
    require(
        not unknown,
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
