"""The contract that every family keeps, as one check of a `Family`."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from lm_jax.config import Config, ModelConfig, SampleConfig
from lm_jax.language_model import Family
from lm_jax.types import EOS, MASK, NUM_NON_TEXT, PAD, Rows

LENGTH, VOCAB = 3, NUM_NON_TEXT + 3
CFG = Config(
    model=ModelConfig(
        length=LENGTH,
        vocab_size=VOCAB,
        width=16,
        num_layers=1,
        num_heads=2,
        ffn_width=16,
    )
)
TEXTS = np.array(list(itertools.product(range(EOS, VOCAB), repeat=LENGTH)), np.int32)


def check_family(family: Family) -> None:
    """Every promise of `LanguageModel`, on a model of random parameters."""
    lm = family.make(CFG)
    assert lm.is_bound == family.is_bound
    init = jax.jit(lm.init)
    params = jax.tree.map(lambda x: x + 0.3 * jnp.cos(7.0 * x), init(jax.random.key(0)))
    for check in (
        check_gradients,
        check_rows_and_padding,
        check_likelihood,
        check_given_tokens,
        check_samples,
        check_likelihood_of_samplers,
    ):
        check(family, lm, params)


def check_gradients(family, lm, params) -> None:
    """Loss and gradients are finite float32, and compile once."""
    traces = []

    @jax.jit
    def loss_and_grads(params, x, key):
        traces.append(None)
        return jax.value_and_grad(lambda p: lm.token_nll(p, x, key).sum())(params)

    x = jnp.asarray(TEXTS[:8]).at[3:, 2].set(PAD)
    for seed in range(2):
        loss, grads = loss_and_grads(params, x, jax.random.key(seed))
        for leaf in (loss, *jax.tree.leaves(grads)):
            assert leaf.dtype == jnp.float32 and np.all(np.isfinite(leaf))
    assert len(traces) == 1, family.name


def check_rows_and_padding(family, lm, params) -> None:
    """A row of a microbatch has the loss that it has in the batch; PAD has none."""
    x = jnp.asarray(TEXTS[:8]).at[3:, 2].set(PAD)
    whole = lm.token_nll(params, x, jax.random.key(1))
    rows = Rows(jnp.arange(2, 5), 8)
    part = lm.token_nll(params, x[2:5], jax.random.key(1), rows=rows)
    np.testing.assert_allclose(part, whole[2:5], rtol=1e-5, atol=1e-6)
    assert np.all(np.asarray(whole)[np.asarray(x) == PAD] == 0.0), family.name


def check_likelihood(family, lm, params) -> None:
    """Over all texts p adds up to 1 where it is exact, and bounds to at most 1; the
    training loss has the same expectation."""
    x = jnp.asarray(TEXTS)
    log_p, error = lm.log_likelihood(params, x, jax.random.key(2), 512)
    total = float(np.exp(np.asarray(log_p)).sum())
    assert np.all(np.asarray(log_p) < 0.0)
    if family.is_bound:
        slack = 3.0 * float(np.sum(np.exp(np.asarray(log_p)) * np.asarray(error)))
        assert 0.3 < total <= 1.0 + slack, total
    else:
        assert abs(total - 1.0) < 1e-4 and np.all(np.asarray(error) == 0.0), total
    keys = jax.random.split(jax.random.key(3), 2_048)
    losses = jax.lax.map(lambda key: lm.token_nll(params, x, key).sum(), keys)
    mean, spread = float(losses.mean()), float(losses.std()) / len(keys) ** 0.5
    tolerance = 4.0 * (spread + float(jnp.linalg.norm(error))) + 1e-3
    assert abs(mean + float(log_p.sum())) < tolerance, (mean, float(log_p.sum()))


def check_given_tokens(family, lm, params) -> None:
    """Given the first tokens, p of the rest adds up to 1 where it is exact, and bounds
    to at most 1; with all tokens given nothing is left to score."""
    x, key = jnp.asarray(TEXTS), jax.random.key(5)
    score = jax.jit(lm.log_likelihood, static_argnums=3)
    for num_given in range(LENGTH + 1):
        given = jnp.full(len(x), num_given)
        log_p, error = score(params, x, key, 512, given)
        p, error = np.exp(np.asarray(log_p)), np.asarray(error)
        num_rest = (VOCAB - EOS) ** (LENGTH - num_given)
        totals = p.reshape(-1, num_rest).sum(axis=1)  # one for each given beginning
        slack = 3.0 * (p * error).reshape(-1, num_rest).sum(axis=1) + 1e-4
        assert np.all(totals <= 1.0 + slack), (family.name, num_given, totals)
        if not family.is_bound or num_given >= LENGTH - 1:
            np.testing.assert_allclose(totals, 1.0, atol=1e-4, err_msg=family.name)


def check_likelihood_of_samplers(family, lm, params) -> None:
    """Of every sampler that the family does not refuse, p adds up to 1 over all texts:
    for each draw of the order, if it is random."""
    x, same_key = jnp.asarray(TEXTS), -jnp.arange(len(TEXTS))
    for name in family.samplers():
        cfg = family.resolve(SampleConfig(sampler=name, num_steps=2, top_k=2))
        try:
            family.order(cfg, LENGTH)
        except ValueError as error:
            assert "sampler=" in str(error), name
            continue
        replay = jax.jit(partial(lm.sample, shape=x.shape, cfg=cfg))
        output = replay(params, jax.random.key(6), first_row=same_key, truth=x)
        np.testing.assert_array_equal(output.tokens, x, err_msg=name)
        p = np.exp(np.asarray(output.log_p, np.float64).sum(axis=1))
        assert abs(p.sum() - 1.0) < 1e-4, (name, p.sum())


def check_samples(family, lm, params) -> None:
    """Samples are text, keep given tokens, ignore the batch, and compile once; every
    sampler that the family names works."""
    template = np.full((4, LENGTH), MASK, np.int32)
    template[:, 0] = EOS + 1
    for name in family.samplers():
        cfg, traces = SampleConfig(sampler=name, num_steps=LENGTH), []

        def draw(key, given, first_row, cfg=cfg, traces=traces):
            traces.append(None)
            shape = given.shape
            return lm.sample(params, key, shape, cfg, given, first_row, True)

        compiled = jax.jit(draw)
        output = compiled(jax.random.key(4), template, jnp.int32(0))
        x = np.asarray(output.tokens)
        assert x.shape == template.shape and np.all(x >= NUM_NON_TEXT), name
        assert np.all(x[:, 0] == EOS + 1), name
        steps = np.asarray(output.unmask_step)
        assert np.all((steps == -1) == (template != MASK)), name
        later = compiled(jax.random.key(4), template, jnp.int32(2)).tokens
        np.testing.assert_array_equal(np.asarray(later)[:2], x[2:], err_msg=name)
        assert len(traces) == 1, name
        if name == next(iter(family.samplers())):  # rows in another order
            first_rows = jnp.array([3, 2, 1, 0]) - jnp.arange(4)
            other = compiled(jax.random.key(4), template, first_rows).tokens
            np.testing.assert_array_equal(np.asarray(other), x[::-1], err_msg=name)
