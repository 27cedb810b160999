"""Rules: which masked positions open in a step.

A rule plans before the network is asked, so that a step in which nothing can open needs
no network; some then choose among the candidates by what the network says. A new rule
is one function here and one line in mdlm_jax/samplers.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lm_jax.types import MASK, Logits, RowKeys, Times, Tokens
from mdlm_jax.schedule import Schedule, inverse

Where = Bool[Array, "B L"]
Scalar = Float[Array, ""]


class Step(NamedTuple):
    """A step from t to s < t, as a rule sees it before the network is asked.

    Attributes:
      u: a uniform number for each position, the same in every step.
      open_keys, shut_keys: of the rows in this step.
      z_t: the tokens now.
      is_free: where text is wanted now: not given, and of the block that is written.
      alpha_t, alpha_s: shares of clean tokens before and after the step.
      steps_left: this step and those that follow.
      psi: the probability that each token had when it was written.
    """

    u: Float[Array, "B L"]
    open_keys: RowKeys
    shut_keys: RowKeys
    z_t: Tokens
    is_free: Where
    alpha_t: Scalar
    alpha_s: Scalar
    steps_left: Int[Array, ""]
    psi: Float[Array, "B L"]

    @property
    def is_masked(self) -> Where:
        """Where text is wanted and none is yet."""
        return self.is_free & (self.z_t == MASK)

    @property
    def is_written(self) -> Where:
        """Where a token was written that may be taken back."""
        return self.is_free & (self.z_t != MASK)


class Plan(NamedTuple):
    """What a step is going to do.

    Attributes:
      opens: what opens, or the candidates that the rule is going to choose from.
      shuts: written tokens that become MASK again.
      t: the time that the network is told; None is the clock's.
    """

    opens: Where
    shuts: Where
    t: Times | None = None


class Sight(NamedTuple):
    """What the network says of every position.

    Attributes:
      logits: the model's own, before temperature and cuts; -inf where nothing is text.
      propose: () -> the tokens that would be drawn, and their log-probability as drawn.
    """

    logits: Logits
    propose: Callable[[], tuple[Tokens, Float[Array, "B L"]]]


class Rule(NamedTuple):
    """Which positions open, and which shut.

    Attributes:
      plan: what can be known without the network.
      choose: (step, candidates, sight) -> what opens; None opens all candidates.
      remasks: whether written tokens may shut again.
    """

    plan: Callable[[Step], Plan]
    choose: Callable[[Step, Where, Sight], Where] | None = None
    remasks: bool = False


Quota = Callable[[Step], Int[Array, " B"]]
Score = Callable[[Sight], Float[Array, "B L"]]


def ancestral(step: Step) -> Plan:
    """q(z_s | z_t, x): each position stays masked with (1 - alpha_s) / (1 - alpha_t).

    So it opens with (alpha_s - alpha_t) / (1 - alpha_t); Sahoo et al. 2024,
    arXiv:2406.07524, eq. 6. The token is drawn apart: one draw over {stay} and V
    together loses the rare tokens to float32.
    """
    stays = (1.0 - step.alpha_s) / _positive(1.0 - step.alpha_t)
    stays = bernoulli(step.open_keys, jnp.broadcast_to(stays, step.z_t.shape))
    return Plan(step.is_masked & ~stays, jnp.zeros_like(stays))


def first_hitting(alpha: Schedule) -> Callable[[Step], Plan]:
    """One position at a time, each at the very time at which it opens.

    The masked shares u_l = 1 - alpha(t_l) at which positions open are independent and
    uniform on [0, 1]; the largest is first, and the network is told its t_l. The law is
    that of infinitely many ancestral steps; Zheng et al. 2024, arXiv:2409.02908,
    section 4, where the same times are drawn one after another.
    """

    def plan(step: Step) -> Plan:
        waiting = jnp.where(step.is_masked, step.u, -1.0)
        opens = step.is_masked & (rank(waiting) == 0)
        share = jnp.clip(jnp.max(waiting, axis=1), 0.0, 1.0)
        return Plan(opens, jnp.zeros_like(opens), inverse(alpha, 1.0 - share))

    return plan


def ranked(score: Score, quota: Quota) -> Rule:
    """The positions with the largest scores open, as many as the quota says.

    Ties open from the left; after Chang et al. 2022, arXiv:2202.04200.
    """

    def plan(step: Step) -> Plan:
        opens = step.is_masked & (quota(step) > 0)[:, None]
        return Plan(opens, jnp.zeros_like(opens))

    def choose(step: Step, candidates: Where, sight: Sight) -> Where:
        scores = jnp.where(candidates, score(sight), -jnp.inf)
        return candidates & (rank(scores) < quota(step)[:, None])

    return Rule(plan, choose)


def threshold(least: float) -> Rule:
    """Every position with max_v p(x_l = v | z_t) > least opens, and always the surest.

    Wu et al. 2025, arXiv:2505.22618.
    """

    def plan(step: Step) -> Plan:
        return Plan(step.is_masked, jnp.zeros_like(step.is_masked))

    def choose(step: Step, candidates: Where, sight: Sight) -> Where:
        sure = jnp.where(candidates, confidence(sight), -jnp.inf)
        return candidates & ((jnp.exp(sure) > least) | (rank(sure) == 0))

    return Rule(plan, choose)


# Scores. p is the model's own, before temperature and cuts, so that greedy decoding
# ranks too.


def confidence(sight: Sight) -> Float[Array, "B L"]:
    """log max_v p(x_l = v | z_t)."""
    return jnp.max(sight.logits, axis=-1) - jax.nn.logsumexp(sight.logits, axis=-1)


def margin(sight: Sight) -> Float[Array, "B L"]:
    """How far the likeliest token is ahead of the second; Kim et al. 2025,
    arXiv:2502.06768, section 4."""
    log_z = jax.nn.logsumexp(sight.logits, axis=-1, keepdims=True)
    best = jnp.exp(jax.lax.top_k(sight.logits, 2)[0] - log_z)
    return best[..., 0] - best[..., 1]


def entropy(sight: Sight) -> Float[Array, "B L"]:
    """sum_v p log p, the negative entropy."""
    log_p = jax.nn.log_softmax(sight.logits, axis=-1)
    return jnp.sum(jnp.where(log_p > -jnp.inf, jnp.exp(log_p) * log_p, 0.0), axis=-1)


def sampled(sight: Sight) -> Float[Array, "B L"]:
    """The log-probability of the very token that is drawn."""
    return sight.propose()[1]


# Quotas.


def by_schedule(step: Step) -> Int[Array, " B"]:
    """As many as leave round((1 - alpha_s) n) of the n free positions masked."""
    num_free = jnp.sum(step.is_free, axis=1).astype(jnp.float32)
    num_stay = jnp.round((1.0 - step.alpha_s) * num_free).astype(jnp.int32)
    return jnp.maximum(jnp.sum(step.is_masked, axis=1) - num_stay, 0)


def evenly(step: Step) -> Int[Array, " B"]:
    """What is masked, divided by the steps that are left: at least 1, rounded down.

    So 128 tokens in 100 steps are 72 steps of one token, then 28 of two.
    """
    num_masked = jnp.sum(step.is_masked, axis=1)
    return jnp.minimum(num_masked, jnp.maximum(num_masked // step.steps_left, 1))


# Helpers that rules share.


def told_by_clock(rule: Rule) -> Rule:
    """The rule, but the network is told the clock's time."""
    return rule._replace(plan=lambda step: rule.plan(step)._replace(t=None))


def bernoulli(keys: RowKeys, p: Float[Array, "B L"]) -> Where:
    """True with probability p, by the key of each row."""
    return jax.vmap(jax.random.bernoulli)(keys, p)


def rank(scores: Float[Array, "B L"]) -> Int[Array, "B L"]:
    """0 for the largest score of each row, ties from the left.

    >>> rank(jnp.array([[0.1, 0.7, 0.1]])).tolist()
    [[1, 0, 2]]
    """
    order = jnp.argsort(-scores, axis=1, stable=True)
    return jnp.argsort(order, axis=1)  # the inverse of a permutation


def _positive(x: Scalar) -> Scalar:
    """Where alpha_t rounds to 1, nothing stays masked."""
    return jnp.maximum(x, jnp.finfo(jnp.float32).tiny)
