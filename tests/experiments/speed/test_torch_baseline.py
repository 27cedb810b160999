"""The PyTorch twin computes what we compute: else its time would say nothing."""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest

import ar_jax
import mdlm_jax
from ar_jax.objective import shift_right
from lm_jax.config import Config, ModelConfig, OptimizerConfig, TrainConfig
from lm_jax.keys import row_keys
from lm_jax.types import EOS, MASK, Rows
from mdlm_jax.forward_process import mask_tokens, stratified_times
from mdlm_jax.schedule import polynomial

if not importlib.util.find_spec("torch"):
    pytest.skip("needs the extra 'bench'", allow_module_level=True)

from experiments.speed import torch_baseline
from mdlm_jax.config import MDLMConfig

CFG = Config(
    model=ModelConfig(
        length=8,
        vocab_size=300,
        width=32,
        num_layers=2,
        num_heads=2,
        ffn_width=48,
    ),
    families={"mdlm": MDLMConfig(schedule="polynomial")},
    optimizer=OptimizerConfig(warmup_steps=2),
    train=TrainConfig(batch_size=8, num_steps=100),
)
X = jax.random.randint(jax.random.key(3), (8, 8), EOS, CFG.model.vocab_size)


def untidy(params):
    """Parameters none of which is zero or one: what they begin with would hide much."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    noise = [
        0.1 * jax.random.normal(k, p.shape) for k, p in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, [p + n for p, n in zip(leaves, noise, strict=True)])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", [ar_jax, mdlm_jax])
def test_with_our_weights_its_loss_and_gradient_are_ours(family, tied):
    """For the same inputs, noise and times, to float32."""
    cfg = dataclasses.replace(CFG, model=dataclasses.replace(CFG.model, tied_head=tied))
    lm = family.language_model(cfg)
    params = untidy(lm.init(jax.random.key(0)))
    key = jax.random.key(1)
    loss, grads = jax.value_and_grad(lambda p: lm.token_nll(p, X, key).mean())(params)
    tensors = torch_baseline.copy_params(params)
    x, weight = torch_baseline.torch.tensor(np.asarray(X)).long(), 1.0
    if family is ar_jax:
        inputs, t = shift_right(X), None
    else:
        objective_key, _ = jax.random.split(jax.random.clone(key))
        inputs, t = noise_of(objective_key)
        weight = (inputs == MASK) * (2 / t)[:, None]
        weight = torch_baseline.torch.tensor(np.asarray(weight)).flatten()
        t = torch_baseline.torch.tensor(np.asarray(t))
    inputs = torch_baseline.torch.tensor(np.asarray(inputs)).long()
    theirs = (torch_baseline.token_nll(cfg, tensors, inputs, x, t=t) * weight).mean()
    np.testing.assert_allclose(theirs.item(), loss, rtol=1e-5)
    theirs.backward()
    for ours, tensor in zip(
        jax.tree.leaves(grads), jax.tree.leaves(tensors), strict=True
    ):
        np.testing.assert_allclose(tensor.grad, ours, rtol=1e-3, atol=1e-6)


def noise_of(key):
    """z_t and t as the objective draws them."""
    key_t, key_z = jax.random.split(key)
    rows = Rows.of(X)
    t = stratified_times(key_t, rows)
    keys = row_keys(key_z, rows.index)
    return mask_tokens(keys, X, polynomial(t)), t


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["ar", "mdlm"])
def test_its_steps_learn_the_batch(family, dtype):
    """Whole steps, optimiser and all: the loss of one batch falls."""
    cfg = dataclasses.replace(CFG, model=dataclasses.replace(CFG.model, dtype=dtype))
    cfg = dataclasses.replace(
        cfg, optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2)
    )
    lm = {"ar": ar_jax, "mdlm": mdlm_jax}[family].language_model(cfg)
    params = lm.init(jax.random.key(0))
    step = torch_baseline.training_step(
        cfg, family, params, np.asarray(X), mode="eager", device="cpu"
    )
    losses = [step() for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


def test_a_model_that_it_does_not_know_is_refused():
    """Times of another model would be compared with ours."""
    cfg = dataclasses.replace(
        CFG, families={"mdlm": MDLMConfig(time_embedding="adaln")}
    )
    with pytest.raises(ValueError, match="adaln"):
        torch_baseline.training_step(
            cfg, "ar", {}, np.asarray(X), mode="eager", device="cpu"
        )
