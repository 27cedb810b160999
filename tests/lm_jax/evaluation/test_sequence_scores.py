"""Scores of whole sets of windows, with language models whose answers are known."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm_jax import run as runs
from lm_jax.config import Config
from lm_jax.evaluation.likelihood import (
    bits_per_byte,
    row_log_likelihood,
    score,
    window_nats,
)
from lm_jax.keys import row_keys
from lm_jax.language_model import LanguageModel
from lm_jax.sampling.samples_file import Sample
from lm_jax.types import EOS, PAD

KEY = jax.random.key(0)
V = 256


def stand_in(log_likelihood, is_bound=False):
    """A language model that can only be scored."""

    def no(*args, **kwargs):
        raise NotImplementedError

    return LanguageModel(is_bound, 0.0, no, no, log_likelihood, no)


def uniform(params, x, key, num_draws):
    """log p = -log V per token of text, exactly."""
    log_p = -jnp.log(float(V)) * (x != PAD).sum(axis=1)
    return log_p, jnp.zeros_like(log_p)


def token_sum(params, x, key, num_draws):
    """A made-up exact model: token k costs params * k nats, and PAD nothing."""
    log_p = -params * x.sum(axis=1).astype(jnp.float32)
    return log_p, jnp.zeros_like(log_p)


def noisy(params, x, key, num_draws):
    """A made-up bound: standard normal noise per row, and none in rows of PAD."""
    is_text = (x != PAD).any(axis=1)
    noise = jax.vmap(jax.random.normal)(row_keys(key, jnp.arange(x.shape[0])))
    return jnp.where(is_text, noise - 100.0, 0.0), is_text.astype(jnp.float32)


def windows(num_windows=7, length=6):
    """Windows of which the last tokens are PAD, in some more than in others."""
    rng = np.random.default_rng(0)
    x = rng.integers(4, V, (num_windows, length)).astype(np.uint16)
    for row, num_tokens in enumerate(rng.integers(1, length + 1, num_windows)):
        x[row, num_tokens:] = PAD
    return x


def run(lm, x, params=None, batch_size=3, **kwargs):
    return score(
        lm,
        params,
        x,
        kwargs.pop("num_bytes", 100),
        key=KEY,
        num_draws=4,
        batch_size=batch_size,
        **kwargs,
    )


def test_uniform_model_costs_log_v_nats_per_token():
    """PAD has no weight; with one byte a token, log V nats are log2 V bits a byte."""
    x = windows()
    num_tokens = int((x != PAD).sum())
    result = run(stand_in(uniform), x, num_bytes=num_tokens)
    np.testing.assert_allclose(result["nats_per_token"], np.log(V), rtol=1e-6)
    np.testing.assert_allclose(result["bits_per_byte"], 8.0, rtol=1e-6)
    assert result["num_tokens"] == num_tokens < x.size
    assert result["low"] == result["high"] == result["nats_per_token"]
    assert result["standard_error"] == 0.0
    assert (result["is_bound"], result["num_draws"]) == (False, 0)


def test_result_has_exactly_the_promised_fields():
    """What results.json names, as plain numbers that JSON can hold."""
    result = run(stand_in(noisy, is_bound=True), windows())
    assert " ".join(result) == (
        "nats_per_token bits_per_byte is_bound standard_error low high "
        "num_tokens num_bytes num_draws num_windows"
    )
    assert {type(value) for value in result.values()} == {float, int, bool}
    assert (result["num_draws"], result["num_windows"]) == (4, 7)


def test_nats_are_summed_and_divided_once():
    """Long windows weigh more: no mean of means."""
    x = windows()
    result = run(stand_in(token_sum), x, jnp.float32(0.01))
    expected = 0.01 * x.sum() / (x != PAD).sum()
    np.testing.assert_allclose(result["nats_per_token"], expected, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 16])
def test_exact_score_does_not_depend_on_the_batch(batch_size):
    """The last batch is filled up with PAD, which costs nothing."""
    lm, params = stand_in(token_sum), jnp.float32(0.01)
    result = run(lm, windows(), params, batch_size)
    expected = run(lm, windows(), params, 3)
    np.testing.assert_allclose(
        result["nats_per_token"], expected["nats_per_token"], rtol=1e-6
    )


def test_one_program_serves_all_batches_and_calls():
    """Seven windows in threes: two full batches and one of a row, traced once."""
    num_traces = 0

    def counting(params, x, key, num_draws):
        nonlocal num_traces
        num_traces += 1
        return uniform(params, x, key, num_draws)

    lm = stand_in(counting)
    jitted = row_log_likelihood(lm)
    run(lm, windows(), log_likelihood=jitted)
    run(lm, windows(), log_likelihood=jitted)
    assert num_traces == 1


def test_error_of_a_bound_is_that_of_its_independent_rows():
    """49 rows of standard error 1 have 7 together; the interval is 1.96 of that."""
    x = windows(49)
    num_tokens = int((x != PAD).sum())
    result = run(stand_in(noisy, is_bound=True), x, batch_size=10)
    np.testing.assert_allclose(result["standard_error"], 7.0 / num_tokens)
    np.testing.assert_allclose(
        [result["low"], result["high"]],
        result["nats_per_token"] + np.array([-1.96, 1.96]) * 7.0 / num_tokens,
        rtol=1e-4,
    )


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_bound_does_not_depend_on_the_batch(batch_size):
    """Window i draws from fold_in(key, i) and from nothing else."""
    lm, x = stand_in(noisy, is_bound=True), windows()
    nats, errors = window_nats(lm, None, x, key=KEY, num_draws=4, batch_size=batch_size)
    keys = [jax.random.fold_in(jax.random.fold_in(KEY, i), 0) for i in range(7)]
    noise = [float(jax.random.normal(key)) for key in keys]
    np.testing.assert_allclose(nats, 100.0 - np.array(noise), rtol=1e-6)
    np.testing.assert_array_equal(errors, 1.0)


def test_bound_does_not_depend_on_the_devices():
    """Eight rows on one device or spread over eight: the same draws, the same nats."""
    score_rows = row_log_likelihood(stand_in(noisy, is_bound=True))
    x, index = jnp.asarray(windows(8), jnp.int32), jnp.arange(8)
    mesh = jax.make_mesh((8,), ("data",), devices=jax.devices("cpu"))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    spread = jax.device_put((x, index), rows)
    for one, other in zip(
        score_rows(None, x, KEY, index, 4),
        score_rows(None, spread[0], KEY, spread[1], 4),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_nothing_to_score_is_refused():
    """No text and no bytes: the message says so before any division."""
    with pytest.raises(ValueError, match="hold no text"):
        run(stand_in(uniform), np.full((2, 4), PAD, np.uint16))
    with pytest.raises(ValueError, match="num_bytes=0"):
        bits_per_byte(1.0, 0)


def test_a_sample_is_scored_with_the_end_of_its_first_document():
    """log p of the text and its EOS; what follows is another document."""
    unused: Any = None
    content = runs.Run(Path(), "", Config(), unused, unused, "")
    model = runs.Trained(unused, stand_in(uniform), content, unused, 0)
    tokens = [7, 8, EOS, 9, EOS], [7, 8, 9, 9, 9], [EOS, EOS, EOS, EOS, EOS]
    samples = [
        Sample(text="", tokens=row, seed=0, sampler={}, finished=True) for row in tokens
    ]
    found = runs.score_samples(model, samples, 2)
    np.testing.assert_allclose(found, -np.log(V) * np.array([3, 5, 1]), rtol=1e-6)
