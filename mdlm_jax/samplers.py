"""The samplers by name: each is a clock, a rule and, for the study's, a penalty."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lm_jax.config import SampleConfig, require
from lm_jax.sampling.decoding import LogitsTransform, repetition_penalty
from lm_jax.sampling.presets import NO_TRUNCATION, Preset
from mdlm_jax import clocks, remasking, rules
from mdlm_jax.clocks import Clock
from mdlm_jax.rules import Rule, by_schedule, evenly, ranked
from mdlm_jax.schedule import Schedule

Penalty = Callable[[float, Int[Array, "*B V"]], LogitsTransform]


def written_once(penalty: float, counts: Int[Array, "*B V"]) -> LogitsTransform:
    """The common repetition penalty: how often a token is written does not matter."""
    return repetition_penalty(penalty, counts > 0)


def study_penalty(penalty: float, counts: Int[Array, "*B V"]) -> LogitsTransform:
    """logits / min(penalty^count, 5), negative ones too, as the study's code has it:
    a written token whose logit is negative becomes likelier; arXiv:2603.22075."""
    divisor = jnp.minimum(penalty ** counts.astype(jnp.float32), 5.0)

    def transform(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        return logits / divisor

    return transform


class Sampler(NamedTuple):
    """How text is written, but for what the network says.

    Attributes:
      rule: which positions open.
      clock: when.
      penalty: on tokens that are written already.
    """

    rule: Rule
    clock: Clock
    penalty: Penalty = written_once


RuleOf = Callable[[SampleConfig, Schedule], Rule]

# Rules that follow a schedule, step by step.
SCHEDULED: dict[str, RuleOf] = {
    "ancestral": lambda cfg, alpha: Rule(rules.ancestral),
    "confidence": lambda cfg, alpha: ranked(rules.confidence, by_schedule),
    "margin": lambda cfg, alpha: ranked(rules.margin, by_schedule),
    "entropy": lambda cfg, alpha: ranked(rules.entropy, by_schedule),
    "remdm_cap": lambda cfg, alpha: remasking.remasking(remasking.cap(cfg.eta)),
    "remdm_rescale": lambda cfg, alpha: remasking.remasking(remasking.rescale(cfg.eta)),
    "remdm_conf": lambda cfg, alpha: remasking.remasking(remasking.by_doubt(cfg.eta)),
}
# Rules that take as many steps as they need.
ADAPTIVE: dict[str, RuleOf] = {
    "first_hitting": lambda cfg, alpha: Rule(rules.first_hitting(alpha)),
    "threshold": lambda cfg, alpha: rules.threshold(cfg.threshold),
}


def scheduled(name: str, cfg: SampleConfig, alpha: Schedule, length: int) -> Sampler:
    """A rule of SCHEDULED in cfg.num_steps even steps; 0 is one step per token."""
    num_steps = cfg.num_steps or length
    return Sampler(SCHEDULED[name](cfg, alpha), clocks.even(alpha, num_steps))


def adaptive(name: str, cfg: SampleConfig, alpha: Schedule, length: int) -> Sampler:
    """A rule of ADAPTIVE, for as long as it takes."""
    return Sampler(ADAPTIVE[name](cfg, alpha), clocks.by_share(alpha, length))


def _loop(cfg: SampleConfig, alpha: Schedule, length: int) -> Sampler:
    warp = clocks.plateau(alpha, cfg.t_on, cfg.t_off, cfg.alpha_on)
    sigma = remasking.where_still(remasking.cap(cfg.eta))
    clock = clocks.even(alpha, cfg.num_steps or length, warp)
    return Sampler(remasking.remasking(sigma), clock)


def _study(cfg: SampleConfig, alpha: Schedule, length: int) -> Sampler:
    clock = clocks.even(alpha, cfg.num_steps or length)
    return Sampler(ranked(rules.sampled, evenly), clock, study_penalty)


def _blocks(cfg: SampleConfig, alpha: Schedule, length: int) -> Sampler:
    inner = cfg.block_sampler
    require(
        inner in SCHEDULED or inner in ADAPTIVE,
        f"SampleConfig.block_sampler={inner!r} fills no block: choose one of "
        f"{', '.join(map(repr, [*SCHEDULED, *ADAPTIVE]))}",
    )
    size = min(cfg.block_size, length)
    if inner in ADAPTIVE:
        rule = rules.told_by_clock(ADAPTIVE[inner](cfg, alpha))
        return Sampler(rule, clocks.blocks_by_share(alpha, length, size))
    rule = SCHEDULED[inner](cfg, alpha)
    return Sampler(rule, clocks.blocks(alpha, length, size, cfg.num_steps))


SAMPLERS: dict[str, Callable[[SampleConfig, Schedule, int], Sampler]] = {
    **{name: partial(scheduled, name) for name in SCHEDULED},
    **{name: partial(adaptive, name) for name in ADAPTIVE},
    "remdm_loop": _loop,
    "blocks": _blocks,
    "low_temperature": partial(scheduled, "confidence"),
    "vicentino2026": _study,
}

# "low_temperature" stays near the likeliest text, one token a step. "vicentino2026" is
# arXiv:2603.22075 as its code ran it: temperature 0.8 (0.4 + 0.6 t), 100 steps.
PRESETS = {
    "low_temperature": Preset(
        {**NO_TRUNCATION, "num_steps": 0, "temperature": 0.5, "annealing": 1.0}
    ),
    "vicentino2026": Preset(
        {
            **NO_TRUNCATION,
            "num_steps": 100,
            "temperature": 0.8,
            "annealing": 0.4,
            "repetition_penalty": 1.3,
        }
    ),
}
