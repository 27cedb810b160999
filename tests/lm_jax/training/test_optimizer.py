"""The optimiser and the budget, against formulas written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm_jax.config import OptimizerConfig, TrainConfig
from lm_jax.training import budget
from lm_jax.training.optimizer import make_optimizer, make_schedule

CFG = OptimizerConfig(
    learning_rate=0.1, warmup_steps=4, final_share=0.2, weight_decay=0.3, clip_norm=2.0
)


def test_schedule_rises_in_a_line_and_falls_in_a_half_cosine():
    """0 at step 0, the peak after warm-up, half way down half way, final_share at T."""
    schedule = make_schedule(CFG, num_steps=24)
    half_way = 0.1 * (1.0 + 0.2) / 2
    for step, rate in {
        0: 0.0,
        1: 0.025,
        2: 0.05,
        4: 0.1,
        14: half_way,
        24: 0.02,
    }.items():
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-5, err_msg=f"{step=}")


def test_a_schedule_without_warm_up_begins_at_the_peak():
    cfg = OptimizerConfig(learning_rate=0.1, warmup_steps=0)
    np.testing.assert_allclose(make_schedule(cfg, 10)(0), 0.1, rtol=1e-6)


@pytest.mark.parametrize("num_steps", [3, 4])
def test_a_warm_up_that_does_not_fit_is_refused(num_steps):
    with pytest.raises(ValueError, match=r"warmup_steps=4 .* run of \d steps"):
        make_optimizer(CFG, num_steps)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_two_steps_equal_adamw_by_hand(scale):
    """m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, after g is clipped as a whole;
    p -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p), biases too."""
    cfg = OptimizerConfig(
        learning_rate=0.1,
        warmup_steps=0,
        weight_decay=0.3,
        b1=0.8,
        b2=0.9,
        clip_norm=2.0,
    )
    tx, rates = make_optimizer(cfg, 5), make_schedule(cfg, 5)
    rng = np.random.default_rng(0)
    p = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    m, v = ({name: np.zeros(a.shape) for name, a in p.items()} for _ in range(2))
    params = jax.tree.map(jnp.float32, p)
    state = tx.init(params)
    for t in (1, 2):
        g = {name: scale * rng.normal(size=a.shape) for name, a in p.items()}
        updates, state = tx.update(jax.tree.map(jnp.float32, g), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        norm = np.sqrt(sum(np.sum(a**2) for a in g.values()))
        for name, a in g.items():
            a = a * min(1.0, 2.0 / norm)
            m[name] = 0.8 * m[name] + 0.2 * a
            v[name] = 0.9 * v[name] + 0.1 * a**2
            u = m[name] / (1 - 0.8**t) / (np.sqrt(v[name] / (1 - 0.9**t)) + 1e-8)
            p[name] = p[name] - np.asarray(rates(t - 1)) * (u + 0.3 * p[name])
            np.testing.assert_allclose(params[name], p[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "limits, num_steps",
    [
        ({}, 9),
        ({"max_tokens": 8 * 40 + 39}, 8),
        ({"max_tokens": 8 * 40, "max_flops": 7 * 200.0}, 7),
        ({"max_tokens": 1000, "max_flops": 1e9}, 9),
    ],
)
def test_the_smallest_budget_decides(limits, num_steps):
    """A step of 4 windows of 10 tokens at 5 FLOPs is 40 tokens and 200 FLOPs."""
    cfg = TrainConfig(num_steps=9, batch_size=4, **limits)
    assert budget.num_steps(cfg, 10, 5.0) == num_steps


@pytest.mark.parametrize("limit", [{"max_tokens": 39}, {"max_flops": 199.0}])
def test_a_budget_below_one_step_is_refused(limit):
    with pytest.raises(ValueError, match="does not pay for one step"):
        budget.num_steps(TrainConfig(batch_size=4, **limit), 10, 5.0)
