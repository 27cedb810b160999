"""Sampling: the samplers of masked diffusion by name."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Array, Int

from lm_jax.config import SampleConfig, require
from lm_jax.language_model import Order, Preset, resolve_sampler_config
from lm_jax.sampling.decoding import Template, full_template
from lm_jax.types import Params, PRNGKey, SampleOutput, Tokens
from mdlm_jax.samplers import (
    ancestral,
    blocks,
    entropy_bounded,
    first_hitting,
    ranked,
    remdm,
    shuffled,
    spread,
    threshold,
    vicentino2026,
)
from mdlm_jax.samplers.base import (
    HeadFn,
    HiddenFn,
    Sampler,
    UnmaskingPolicy,
    default_grid,
    run,
)
from mdlm_jax.schedule import Schedule, linear

# Each of these is a sampler on its default grid, and can fill blocks.
POLICIES: dict[str, Callable[[SampleConfig, Schedule], UnmaskingPolicy]] = {
    "ancestral": ancestral.policy,
    "confidence": ranked.by_confidence,
    "margin": ranked.by_margin,
    "entropy": ranked.by_entropy,
    "remdm_cap": remdm.cap,
    "remdm_rescale": remdm.rescale,
    "remdm_conf": remdm.conf,
    "first_hitting": first_hitting.policy,
    "threshold": threshold.policy,
    "eb": entropy_bounded.policy,
    "spread": spread.policy,
    "shuffled": shuffled.policy,
}


def on_default_grid(
    name: str, cfg: SampleConfig, alpha: Schedule, length: int
) -> Sampler:
    """A policy by name, on the grid that suits it."""
    policy = POLICIES[name](cfg, alpha)
    return Sampler(policy, default_grid(policy, cfg, alpha, length))


def in_blocks(cfg: SampleConfig, alpha: Schedule, length: int) -> Sampler:
    """The policy cfg.block_sampler, block by block."""
    require(
        cfg.block_sampler in POLICIES,
        f"SampleConfig.block_sampler={cfg.block_sampler!r} fills no block: choose one "
        f"of {', '.join(map(repr, POLICIES))}",
    )
    inner = POLICIES[cfg.block_sampler](cfg, alpha)
    return blocks.sampler(inner, cfg, alpha, length)


MakeSampler = Callable[[SampleConfig, Schedule, int], Sampler]
OTHER_SAMPLERS: dict[str, MakeSampler] = {
    "remdm_loop": remdm.loop,
    "blocks": in_blocks,
    "low_temperature": partial(on_default_grid, "confidence"),
    "vicentino2026": vicentino2026.sampler,
}
PRESETS = {
    "low_temperature": ranked.LOW_TEMPERATURE,
    "vicentino2026": vicentino2026.PRESET,
}


def samplers() -> dict[str, Preset]:
    """The preset of every sampler by name; the first is the default."""
    return {name: PRESETS.get(name, Preset()) for name in _makers()}


def _makers() -> dict[str, MakeSampler]:
    on_grids = {name: partial(on_default_grid, name) for name in POLICIES}
    return on_grids | OTHER_SAMPLERS


def order(cfg: SampleConfig, length: int) -> Order:
    """The order in which the sampler of `cfg` writes a window of `length` tokens.

    Raises:
      ValueError: there is no such sampler, or it has no likelihood, as it drops tokens.
    """
    cfg = resolve_sampler_config(cfg, samplers())
    policy, _, _, block_size = _makers()[cfg.sampler](cfg, linear, length)
    for is_so, what in (
        (policy.remasks, "masks tokens again"),
        (policy.depends_on == "drawn", "drops tokens that it has drawn"),
    ):
        require(
            not is_so,
            f"SampleConfig.sampler={cfg.sampler!r} {what}, so that a text can come "
            "about in too many ways to add up: choose one that keeps every token, as "
            "'confidence' (exact) or 'first_hitting' (a bracket)",
        )
    return Order(policy.depends_on == "random", block_size)


def sample(
    hidden_fn: HiddenFn,
    head_fn: HeadFn,
    params: Params,
    key: PRNGKey,
    shape: tuple[int, int],
    cfg: SampleConfig,
    template: Template | None = None,
    first_row: int | Int[Array, ""] | Int[Array, " B"] = 0,
    traced: bool = False,
    truth: Tokens | None = None,
    alpha: Schedule = linear,
) -> SampleOutput:
    """Samples text by the sampler cfg.sampler; "" is "ancestral".

    Args:
      hidden_fn, head_fn: the network in two parts; see `samplers.base.run`.
      params, key, shape, cfg, template, first_row, traced, truth: see
        `language_model.Sample`.
      alpha: masking schedule.

    Raises:
      ValueError: there is no such sampler, or the template has another shape.
    """
    cfg = resolve_sampler_config(cfg, samplers())
    sampler = _makers()[cfg.sampler](cfg, alpha, shape[1])
    z_1 = full_template(template, shape)
    return run(
        sampler, hidden_fn, head_fn, params, key, z_1, cfg, first_row, traced, truth
    )
