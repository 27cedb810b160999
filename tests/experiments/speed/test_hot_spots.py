"""Where a step's time goes: what is read from traces and programs."""

import re

import jax
import jax.numpy as jnp
import pytest

from experiments.speed import hot_spots
from lm_jax.config import Config, ModelConfig, TrainConfig

TOY = Config(
    model=ModelConfig(
        length=16, vocab_size=500, width=32, num_layers=2, num_heads=2, ffn_width=64
    ),
    train=TrainConfig(batch_size=4),
)


@pytest.fixture(scope="module")
def found():
    return hot_spots.hot_spots(TOY, steps=2)


def test_a_trace_holds_the_kernels_of_the_program_that_is_asked_for(tmp_path):
    """A product beside an addition: neither has the other's."""

    def product(x):
        return x @ x

    def addition(x):
        return x + 1.0

    programs, x = [jax.jit(product), jax.jit(addition)], jnp.ones((256, 256))
    jax.block_until_ready([program(x) for program in programs])
    with jax.profiler.trace(str(tmp_path)):
        for program in [*programs, programs[0]]:
            jax.block_until_ready(program(x))
    ran = hot_spots.kernels(tmp_path, "jit_product")
    others = hot_spots.kernels(tmp_path, "jit_addition")
    assert ran and others and all(s > 0 for s in (*ran.values(), *others.values()))
    assert all("add" not in kernel for _, kernel in ran)
    assert any("add" in kernel for _, kernel in others)
    with pytest.raises(ValueError, match="no trace of a program named jit_absent"):
        hot_spots.kernels(tmp_path, "jit_absent")


def test_what_a_kernel_is_for_is_its_pass_its_layer_and_its_operation():
    """Layers count together; what is no pass of the network is the update."""
    line = '  %{} = f32[2]{{0}} add(%x), metadata={{op_name="jit(step)/{}"}}'
    text = "\n".join(
        line.format(name, purpose)
        for name, purpose in [
            ("a.1", "jvp(Net)/blocks_3/down/dot_general"),
            ("b", "transpose(jvp(Net))/blocks_11/up/dot_general"),
            ("c", "mul"),
        ]
    )
    assert hot_spots.purposes(text) == {
        "a.1": "forward blocks_*/down/dot_general",
        "b": "backward blocks_*/up/dot_general",
        "c": "update mul",
    }


@pytest.mark.parametrize("family", ["ar", "mdlm"])
def test_a_step_is_passes_and_an_update(found, family):
    """Both ways to count have the same sum, and both passes have products. How long
    they take at this size is chance."""
    about = found[family]
    total = sum(about["purposes"].values())
    assert total == pytest.approx(sum(about["kernels"].values()))
    for step in ("forward", "backward"):
        for layer in ("gate", "up", "down", "qkv"):
            product = re.compile(rf"{step} blocks_\*.*/{layer}/.*dot_general")
            assert any(map(product.match, about["purposes"])), (step, layer)
    assert any(name.startswith("update ") for name in about["purposes"])


def test_the_table_has_the_largest_first(found):
    lines = hot_spots.table(found, rows=3).splitlines()
    spent = [float(line.split()[0]) for line in lines[1:4]]
    assert spent == sorted(spent, reverse=True)
    assert lines[0].startswith("ar: ") and len(lines) == 4 * 4 + 3
