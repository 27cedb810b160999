"""The head in training against the plain formula: same nats, same gradients."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ar_jax
import mdlm_jax
from lm_jax.config import Config, ModelConfig
from lm_jax.keys import row_keys
from lm_jax.model.kernels import cross_entropy, masked_nll
from lm_jax.model.nll import token_cross_entropy
from lm_jax.types import EOS, MASK, PAD, Rows
from mdlm_jax.config import MDLMConfig
from mdlm_jax.forward_process import mask_tokens, masked_buffer_size, stratified_times
from mdlm_jax.schedule import SCHEDULES

NUM_TOKENS, SIZE = 30, 32  # two ids pad the vocabulary


def rows(dtype="float32", num_rows=24):
    """Hidden states, a head, targets and what is scored."""
    keys = jax.random.split(jax.random.key(0), 4)
    h = jax.random.normal(keys[0], (num_rows, 8), dtype)
    table = jax.random.normal(keys[1], (SIZE, 8))
    x = jax.random.randint(keys[2], (num_rows,), EOS, NUM_TOKENS)
    return h, table, x, jax.random.bernoulli(keys[3], 0.4, (num_rows,))


def plain(h, table, x, is_scored):
    """The formula of evaluation, on float32 logits."""
    logits = h.astype(jnp.float32) @ table.T
    logits = jnp.where(jnp.arange(SIZE)[None] < NUM_TOKENS, logits, -jnp.inf)
    nats = token_cross_entropy(logits[None], x[None])[0]
    return jnp.where(is_scored, nats, 0.0)


def value_and_grads(f, h, table, weights):
    def loss(h, table):
        return jnp.sum(weights * f(h, table))

    nats = f(h, table)
    return nats, *jax.jit(jax.grad(loss, (0, 1)))(h, table)


@pytest.mark.parametrize("max_scored", [None, 24, 16, 12, 4], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nats_and_gradients_are_those_of_the_plain_formula(dtype, max_scored):
    """However many rows the head runs on; with room for four it overflows."""
    h, table, x, is_scored = rows(dtype)
    assert is_scored.sum() == 12
    weights = jnp.linspace(0.5, 2.0, len(x))
    run = partial(
        masked_nll,
        x=jnp.where(is_scored, x, PAD),
        is_scored=is_scored,
        num_tokens=NUM_TOKENS,
        max_scored=max_scored,
    )
    found = value_and_grads(run, h, table, weights)
    expected = value_and_grads(
        partial(plain, x=x, is_scored=is_scored), h, table, weights
    )
    tolerance = 1e-5 if dtype == "float32" else 0.03
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        ours, theirs = np.float32(ours), np.float32(theirs)
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, atol=tolerance * scale)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_few_scored_rows_fill_the_buffer_up_to_its_end(count):
    """None, one, and exactly as many as fit."""
    h, table, x, _ = rows()
    is_scored = jnp.arange(len(x)) % 6 == 5
    is_scored &= jnp.cumsum(is_scored) <= count
    ours = masked_nll(h, table, x, is_scored, num_tokens=NUM_TOKENS, max_scored=4)
    np.testing.assert_allclose(ours, plain(h, table, x, is_scored), atol=1e-5)
    assert np.count_nonzero(ours) == count


def test_what_is_no_text_gets_no_probability():
    """The gradient of ruled-out logits is zero, whatever they are."""
    logits = jax.random.normal(jax.random.key(1), (3, SIZE)).at[:, :4].set(90.0)
    logits = logits.at[:, NUM_TOKENS:].set(90.0)
    x = jnp.array([EOS, 7, 29])
    grad = jax.grad(lambda z: jnp.sum(cross_entropy(z, x, NUM_TOKENS)))(logits)
    np.testing.assert_array_equal(grad[:, :4], 0.0)
    np.testing.assert_array_equal(grad[:, NUM_TOKENS:], 0.0)
    np.testing.assert_allclose(grad.sum(-1), 0.0, atol=1e-6)


def test_no_float32_logits_are_kept_for_the_backward_pass():
    """Between the passes lie bfloat16 logits, of as many rows as the head runs on."""
    h, table, x, is_scored = rows("bfloat16")
    for max_scored, num_rows in ((None, 24), (12, 12)):
        run = partial(
            masked_nll,
            x=x,
            is_scored=is_scored,
            num_tokens=NUM_TOKENS,
            max_scored=max_scored,
        )
        kept = jax.tree.leaves(jax.vjp(run, h, table)[1])
        logits = [leaf for leaf in kept if leaf.shape == (num_rows, SIZE)]
        assert [leaf.dtype for leaf in logits] == [jnp.bfloat16]
        assert all(leaf.size < 24 * SIZE or leaf is logits[0] for leaf in kept)


CFG = Config(
    model=ModelConfig(
        length=16, vocab_size=300, width=16, num_layers=1, num_heads=2, ffn_width=24
    )
)


@pytest.mark.parametrize("head", ["all", "masked"])
@pytest.mark.parametrize("family", [ar_jax, mdlm_jax])
def test_the_training_loss_is_that_of_the_logits(family, head):
    """Both families, with PAD: what is trained is what `token_scores` would score."""
    model = dataclasses.replace(CFG.model, tied_head=head == "all")
    cfg, other = (
        dataclasses.replace(
            CFG, model=model, families={"mdlm": MDLMConfig(head=positions)}
        )
        for positions in (head, "all")
    )
    lm, reference = family.language_model(cfg), family.language_model(other)
    x = jax.random.randint(jax.random.key(5), (32, 16), EOS, 300).at[:, 12:].set(PAD)
    params = lm.init(jax.random.key(0))
    key = jax.random.key(1)

    def value_and_grad(lm, key):
        return jax.jit(jax.value_and_grad(lambda p: lm.token_nll(p, x, key).sum()))(
            params
        )

    values = value_and_grad(lm, key), value_and_grad(reference, jax.random.clone(key))
    for ours, theirs in zip(*map(jax.tree.leaves, values), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("head, num_rows", [("all", 512), ("masked", 384)])
def test_the_head_runs_where_the_config_says(head, num_rows):
    """At all positions, or at the masked ones: 32 x 16 / 2, and room for chance."""
    lm = mdlm_jax.language_model(
        dataclasses.replace(CFG, families={"mdlm": MDLMConfig(head=head)})
    )
    params = lm.init(jax.random.key(0))
    x = jax.random.randint(jax.random.key(5), (32, 16), EOS, 300)
    kept = jax.vjp(lambda p: lm.token_nll(p, x, jax.random.key(1)).sum(), params)[1]
    shapes = [leaf.shape for leaf in jax.tree.leaves(kept)]
    columns, width = params["backbone"]["embedding"].shape
    logits = [shape for shape in shapes if shape[1:] == (columns,)]
    assert [shape[0] for shape in logits if shape[0] != width] == [num_rows]


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("shape", [(4, 112), (16, 64)])
def test_masks_fit_into_their_buffer(schedule, shape):
    """In 500 batches of every schedule, with little room to spare."""
    alpha, x = SCHEDULES[schedule], jnp.full(shape, EOS)
    size = masked_buffer_size(alpha, *shape)

    def count(key):
        key_t, key_z = jax.random.split(key)
        all_rows = Rows.of(x)
        t = stratified_times(key_t, all_rows)
        z_t = mask_tokens(row_keys(key_z, all_rows.index), x, alpha(t))
        return jnp.sum(z_t == MASK)

    keys = jax.random.split(jax.random.key(2), 500)
    counts = jax.jit(lambda keys: jax.lax.map(count, keys, batch_size=100))(keys)
    assert counts.max() <= size
    assert size - counts.max() < 128 + 0.05 * x.size


def test_the_study_and_its_batch_need_little_more_than_half():
    """32 x 512 tokens with a linear schedule: half, the offset, and the coins."""
    assert 0.5 < masked_buffer_size(SCHEDULES["linear"], 32, 512) / 2**14 < 0.5625


@pytest.mark.parametrize("max_scored", [None, 1_024])
def test_the_gradient_of_the_head_is_not_rounded_to_bfloat16(max_scored):
    """It is float32 before it is summed over microbatches and devices."""
    h, table, x, _ = rows("bfloat16", 4_096)
    is_scored = jnp.arange(4_096) < 1_000

    def total(table):
        nats = masked_nll(
            h, table, x, is_scored, num_tokens=NUM_TOKENS, max_scored=max_scored
        )
        return jnp.sum(nats)

    grad = jax.grad(total)(table)
    grad = grad[grad != 0]
    is_rounded = grad.astype("bfloat16").astype("float32") == grad
    assert grad.dtype == jnp.float32 and len(grad) > 200
    assert jnp.mean(is_rounded) < 0.1
