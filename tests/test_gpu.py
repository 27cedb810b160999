"""On a GPU: what another machine can only compile; skipped with a reason there."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ar_jax
import mdlm_jax
from lm_jax.config import Config, ModelConfig, OptimizerConfig, SampleConfig
from lm_jax.devices import resolve_auto
from lm_jax.model.attention import attend
from lm_jax.training.optimizer import make_optimizer
from lm_jax.training.train_step import init_state, make_train_step
from lm_jax.types import EOS, MASK
from mdlm_jax.config import MDLMConfig

pytestmark = pytest.mark.gpu

FAMILIES = pytest.mark.parametrize("family", [ar_jax, mdlm_jax])
CFG = Config(
    model=ModelConfig(
        length=128,
        vocab_size=500,
        width=128,
        num_layers=2,
        num_heads=2,
        ffn_width=256,
        dtype="bfloat16",
    ),
    families={"mdlm": MDLMConfig(head="masked")},
    optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=0),
)
CFG = resolve_auto(CFG, "gpu", 1)
PLAIN = dataclasses.replace(
    CFG,
    model=dataclasses.replace(CFG.model, dtype="float32", attention="xla"),
    families={"mdlm": MDLMConfig(head="all")},
)
X: Any = np.random.default_rng(0).integers(EOS + 1, 500, (16, 128)).astype(np.int32)


@pytest.fixture
def gpu():
    """Within the test everything runs on the first GPU."""
    device = jax.devices("gpu")[0]
    with jax.default_device(device):
        yield device


def distance(found, expected) -> float:
    """|found - expected| / |expected| over all the arrays of a tree."""
    found, expected = (
        np.concatenate(
            [np.ravel(np.asarray(a, np.float32)) for a in jax.tree.leaves(t)]
        )
        for t in (found, expected)
    )
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("causal", [True, False])
def test_cudnns_attention_is_the_plain_formula(gpu, causal):
    """Values and gradients, as near as bfloat16 is."""
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, weight = (jax.random.normal(key, (2, 128, 4, 64)) for key in keys)

    def values_and_grads(dtype, implementation):
        def total(*heads):
            mixed = attend(*heads, causal=causal, implementation=implementation)
            return jnp.sum(weight * mixed.astype(jnp.float32)), mixed

        heads = [x.astype(dtype) for x in (q, k, v)]
        return jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(*heads)

    fused = values_and_grads(jnp.bfloat16, "cudnn")
    with jax.default_matmul_precision("highest"):
        plain = values_and_grads(jnp.float32, "xla")
    assert distance(fused, plain) < 1e-2


@FAMILIES
def test_loss_and_gradient_in_bfloat16_are_those_of_a_cpu_in_float32(gpu, family):
    """The same noise on both, and with the head on masked rows only."""
    params = family.language_model(PLAIN).init(jax.random.key(0))

    def loss_and_grads(cfg, device):
        lm = family.language_model(cfg)
        fixed = jax.device_put((params, X, jax.random.key(1)), device)

        def loss(params, x, key):
            return jnp.mean(lm.token_nll(params, x, key))

        return jax.device_get(jax.jit(jax.value_and_grad(loss))(*fixed))

    loss, grads = loss_and_grads(CFG, gpu)
    plain_loss, plain_grads = loss_and_grads(PLAIN, jax.devices("cpu")[0])
    assert abs(loss / plain_loss - 1.0) < 5e-3
    assert distance(grads, plain_grads) < 3e-2


@FAMILIES
def test_the_step_learns_a_batch_by_heart(gpu, family):
    """In bfloat16 over float32 parameters, through cuDNN's backward pass."""
    lm = family.language_model(CFG)
    tx = make_optimizer(CFG.optimizer, 100)
    step = make_train_step(lm, tx, jax.random.key(1))
    state, losses = init_state(lm, tx, jax.random.key(0)), []
    for _ in range(60):
        state, metrics = step(state, X)
        losses.append(float(metrics["loss"]))
    # Text without a pattern costs log 495 nats, so that less is memory.
    assert np.mean(losses[:5]) > 5.8 and np.mean(losses[-10:]) < 5.6
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(state.params))


@FAMILIES
def test_the_same_seed_gives_the_same_bits(gpu, family):
    """Under XLA's flag for it; otherwise some sums add up in any order."""
    lm = family.language_model(CFG)
    tx = make_optimizer(CFG.optimizer, 100)
    step = make_train_step(lm, tx, jax.random.key(1))
    start = jax.device_get(init_state(lm, tx, jax.random.key(0)))
    options = {"xla_gpu_exclude_nondeterministic_ops": True}
    compiled = step.lower(jax.device_put(start), X).compile(compiler_options=options)

    def train():
        state = jax.device_put(start)
        for _ in range(5):
            state, _ = compiled(state, X)
        return jax.device_get(state.params)

    jax.tree.map(np.testing.assert_array_equal, train(), train())


@FAMILIES
def test_samples_are_text(gpu, family):
    lm = family.language_model(CFG)
    params = lm.init(jax.random.key(0))
    cfg = SampleConfig(num_steps=16)
    draw = jax.jit(lambda key: lm.sample(params, key, (4, 128), cfg).tokens)
    tokens, again = (np.asarray(draw(jax.random.key(2))) for _ in range(2))
    assert np.all((tokens >= EOS) & (tokens < 500) & (tokens != MASK))
    np.testing.assert_array_equal(again, tokens)
