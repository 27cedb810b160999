"""The audit of samplers: its divergences are those of enumerated distributions."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sampler_audit import audit, report
from experiments.sampler_audit.network import train
from experiments.sampler_audit.sources import logits_fn, random_chain
from lm_jax.config import SampleConfig
from lm_jax.evaluation.sampler_likelihood import log_mean_exp, replay
from lm_jax.types import NUM_NON_TEXT
from mdlm_jax import sampling
from mdlm_jax.samplers.base import split_logits_fn

pytestmark = pytest.mark.usefixtures("fast_compilation")

LENGTH, NUM_SYMBOLS, NUM = 5, 3, 2_000
CHAIN = random_chain(jax.random.key(0), NUM_SYMBOLS)
SYMBOLS = range(NUM_NON_TEXT, NUM_NON_TEXT + NUM_SYMBOLS)
TEXTS = jnp.array(list(itertools.product(SYMBOLS, repeat=LENGTH)))
P = np.exp(np.asarray(CHAIN.log_p(TEXTS), np.float64))


def enumerated(cfg):
    """(forward, reverse) KL in nats per token, over all windows."""
    sample = partial(sampling.sample, *split_logits_fn(logits_fn(CHAIN)))
    replay = jax.jit(partial(sample, shape=TEXTS.shape, cfg=cfg))
    log_q = np.asarray(replay({}, jax.random.key(0), truth=TEXTS).log_p, np.float64)
    q = np.exp(log_q.sum(axis=1))
    assert abs(q.sum() - 1.0) < 1e-5
    return np.sum(P * np.log(P / q)) / LENGTH, np.sum(q * np.log(q / P)) / LENGTH


@pytest.mark.parametrize(
    "cfg",
    [
        SampleConfig(sampler="confidence", num_steps=2),
        SampleConfig(sampler="eb", entropy_bound=1.0),
    ],
    ids=lambda cfg: cfg.sampler,
)
def test_divergences_are_those_of_the_enumerated_law(cfg):
    """Of 2,000 windows and samples, within their intervals."""
    x = CHAIN.sample(jax.random.key(1), NUM, LENGTH)
    row = audit.audit(CHAIN, x, "name", cfg, jax.random.key(2), 1)
    for name, exact in zip(("forward_kl", "reverse_kl"), enumerated(cfg), strict=True):
        found = row[name]
        half = (found["high"] - found["low"]) / 2.0
        assert exact > 0.01 and abs(found["value"] - exact) < 2.0 * half, name


def test_one_step_loses_the_total_correlation():
    """T = 1 draws from the marginals: the entropy of the source is the difference."""
    forward, _ = enumerated(SampleConfig(sampler="confidence", num_steps=1))
    marginals = np.stack(
        [
            [P[np.asarray(TEXTS)[:, at] == v].sum() for v in SYMBOLS]
            for at in range(LENGTH)
        ]
    )
    entropies = -np.sum(marginals * np.log(marginals))
    expected = (entropies + np.sum(P * np.log(P))) / LENGTH
    assert forward == pytest.approx(expected, abs=1e-5)


def test_a_random_order_has_an_upper_bound_and_remasking_has_none():
    """With exact conditionals and one token a step every order gives p(x) itself."""
    x = CHAIN.sample(jax.random.key(1), 32, LENGTH)
    rows = [
        audit.audit(CHAIN, x, name, SampleConfig(sampler=name), jax.random.key(3), 4)
        for name in ("first_hitting", "remdm_cap")
    ]
    assert [row["kind"] for row in rows] == ["bound", "none"]
    assert abs(rows[0]["forward_kl"]["value"]) < 1e-5
    assert "forward_kl" not in rows[1] and rows[1]["source_nats"]["value"] > 0.0
    cells = report.table("chain", found_of(rows)).rows
    assert cells[0][2].startswith("≤ ") and cells[1][2] == cells[1][3] == "–"


def test_the_reverse_kl_of_a_random_order_lies_between_its_bounds():
    """Against q from 4,000 orders of every text; more orders narrow it."""
    cfg = SampleConfig(sampler="shuffled", num_steps=2)
    sample = partial(sampling.sample, *split_logits_fn(logits_fn(CHAIN)))
    log_w = replay(
        sample,
        {},
        np.asarray(TEXTS, np.uint16),
        cfg,
        key=jax.random.key(0),
        num_orders=4_000,
        batch_size=len(TEXTS),
    ).log_p.sum(axis=2)
    q = np.exp(log_mean_exp(log_w))
    assert abs(q.sum() - 1.0) < 0.01
    exact = np.sum(q * np.log(q / P)) / LENGTH
    x = CHAIN.sample(jax.random.key(1), NUM, LENGTH)
    widths = []
    for orders in (4, 16):
        row = audit.audit(CHAIN, x, "shuffled", cfg, jax.random.key(2), orders)
        low, high = (row[f"reverse_kl_{side}"] for side in ("low", "high"))
        assert low["low"] < exact < high["high"] and low["value"] < high["value"]
        widths.append(high["value"] - low["value"])
        assert " to " in report.table("chain", found_of([row])).rows[0][3]
    assert widths[1] < widths[0]


def test_exact_conditionals_in_the_place_of_a_network_have_no_share():
    """And one that has seen twelve batches has a share above zero."""
    x = CHAIN.sample(jax.random.key(1), 100, LENGTH)
    cfg = SampleConfig(sampler="spread", num_steps=2)
    lm, params = train(CHAIN, LENGTH, 12, jax.random.key(3))
    exact = partial(sampling.sample, *split_logits_fn(logits_fn(CHAIN)))
    for network, is_worse in ((lm._replace(sample=exact), False), (lm, True)):
        row = audit.audit(
            CHAIN, x, "spread", cfg, jax.random.key(2), 4, (network, params)
        )
        share = row["network"]["model_share"]
        if is_worse:
            assert 0.0 < share["low"] < share["value"]
        else:
            assert share["value"] == 0.0
    table = report.table("chain", found_of([row]))
    assert len(table.header) == len(table.rows[0]) == 8
    assert (
        report.figure({"chain": found_of([row])})
        .axes[1]
        .get_title()
        .endswith("trained network")
    )


def found_of(rows):
    """The rows of a source as the command keeps them."""
    about = {"entropy": 1.0, "num_windows": 32, "length": LENGTH, "num_orders": 4}
    return {"rows": rows, **about}


def test_every_sampler_that_is_not_a_preset_is_audited():
    """`remdm_cap` stands for its kind, and `blocks` for what fills them."""
    audited = {name for name, _ in audit.settings(8)}
    others = {"remdm_rescale", "remdm_conf", "remdm_loop", "blocks"}
    presets = {"low_temperature", "vicentino2026"}
    assert audited | others | presets == set(sampling.samplers())
