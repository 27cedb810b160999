"""What devices hold and exchange, against what arithmetic says."""

import jax
import pytest

import ar_jax
from experiments.speed.scaling import scaling, table
from lm_jax.config import Config, ModelConfig, TrainConfig

TOY = Config(
    model=ModelConfig(
        length=16, vocab_size=512, width=32, num_layers=1, num_heads=2, ffn_width=64
    ),
    train=TrainConfig(batch_size=16),
)


@pytest.fixture(scope="module")
def found():
    """Eight devices: a copy on each, and one copy on all."""
    return scaling(TOY, jax.devices(), shares=[1, 8], microbatches=[1])


@pytest.fixture(scope="module")
def num_bytes():
    """Of the parameters of AR."""
    params = jax.eval_shape(ar_jax.language_model(TOY).init, jax.random.key(0))
    return sum(4 * leaf.size for leaf in jax.tree.leaves(params))


def test_copies_exchange_their_gradients_once(found, num_bytes):
    """One sum over every parameter, and a few scalars: loss and number of tokens. The
    tied table goes twice, as embedding and as head: XLA does not add the two before it
    exchanges them."""
    sent = found["8 x 1"]["AR"]["communicated_bytes"]
    twice = num_bytes + 4 * TOY.model.vocab_size * TOY.model.width
    assert set(sent) == {"all-reduce"}
    assert twice <= sent["all-reduce"] <= twice + 64


def test_a_shared_copy_is_held_in_parts(found, num_bytes):
    """Parameters and two moments, an eighth of each; every parameter is fetched."""
    whole, shared = found["8 x 1"]["AR"], found["1 x 8"]["AR"]
    batch = 4 * TOY.train.batch_size * TOY.model.length // 8
    assert whole["argument_bytes"] == pytest.approx(3 * num_bytes + batch, rel=0.01)
    assert shared["argument_bytes"] == pytest.approx(
        3 * num_bytes / 8 + batch, rel=0.05
    )
    assert shared["communicated_bytes"]["all-gather"] >= 0.9 * num_bytes


def test_a_table_has_a_line_for_each_family_and_mesh(found):
    """Megabytes, and the kinds of collectives."""
    lines = table(found).splitlines()
    assert len(lines) == 1 + 2 * len(found)
    assert all("all-reduce" in line for line in lines[1:])
