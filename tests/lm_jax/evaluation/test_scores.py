"""What a score is made of: draws and predictions; against oracles and by hand."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Source, any_order_nll, biased_logits

from ar_jax import likelihood as ar
from lm_jax.config import EvaluateConfig
from lm_jax.data.windows import pack_all
from lm_jax.evaluation import calibration
from lm_jax.evaluation.calibration import Predictions
from lm_jax.evaluation.intervals import Z_95
from lm_jax.evaluation.scores import scores, without_lists
from lm_jax.language_model import Diagnostics, LanguageModel
from lm_jax.model.nll import predictions
from lm_jax.types import EOS, MASK, PAD
from mdlm_jax import likelihood as mdlm

SOURCE = Source(num_symbols=3, length=4)
X = jnp.asarray(SOURCE.x[[0, 5, 40, 77]])
KEY = jax.random.key(0)


def no(*args, **kwargs) -> Any:
    raise NotImplementedError


def model(is_bound, logits_fn=SOURCE.timed_logits):
    """A family over the oracle's logits."""
    if not is_bound:
        return LanguageModel(
            is_bound=False,
            flops_per_token=0.0,
            init=no,
            token_nll=no,
            log_likelihood=partial(ar.log_likelihood, SOURCE.causal_logits),
            sample=no,
            diagnostics=Diagnostics(
                lambda *args: ar.token_scores(SOURCE.causal_logits, *args)
            ),
        )
    return LanguageModel(
        is_bound=True,
        flops_per_token=0.0,
        init=no,
        token_nll=no,
        log_likelihood=partial(mdlm.log_likelihood, logits_fn),
        sample=no,
        diagnostics=Diagnostics(lambda *args: mdlm.token_scores(logits_fn, *args)),
    )


def draw(num_windows, seed=0):
    """Windows of the source."""
    index = np.random.default_rng(seed).choice(len(SOURCE.p), num_windows, p=SOURCE.p)
    return SOURCE.x[index].astype(np.uint16)


def score(lm, windows, num_given=None, document=None, **kwargs):
    cfg = EvaluateConfig(**{"num_draws": 4, "num_resamples": 100, **kwargs})
    return scores(
        lm,
        {},
        windows,
        cfg,
        key=KEY,
        num_bytes=100,
        num_words=50,
        num_given=num_given,
        document=document,
    )


@pytest.mark.slow
def test_interval_of_the_bound_covers_the_truth():
    """95% +- 3% of 400 repetitions, against the enumerated any-order average."""
    windows = jnp.tile(X, (6, 1))
    truth = any_order_nll(biased_logits, X).sum() * 6
    keys = jax.random.split(jax.random.key(3), 400)

    def once(key):
        log_p, error = mdlm.log_likelihood(biased_logits, {}, windows, key, 16)
        return -log_p.sum(), jnp.sqrt((error**2).sum())

    nats, error = jax.jit(lambda keys: jax.lax.map(once, keys))(keys)
    covered = np.mean(np.abs(nats - truth) <= Z_95 * error)
    assert 0.92 <= covered <= 0.98


def test_predictions_weigh_as_their_score_does():
    """Exact: weight * nats sum to -log p. A draw: to the bound, and weight to n."""
    found = ar.token_scores(SOURCE.causal_logits, {}, X, KEY)
    exact = (found.weight * found.nats).sum(-1)
    np.testing.assert_allclose(exact, -SOURCE.log_p(X), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.hidden_share[0], [1, 3 / 4, 2 / 4, 1 / 4])
    keys = jax.random.split(KEY, 4_000)
    found = jax.jit(
        lambda keys: jax.lax.map(
            lambda key: mdlm.token_scores(biased_logits, {}, X, key), keys
        )
    )(keys)
    bound = np.asarray((found.weight * found.nats).sum(-1))
    error = bound.std(0) / 4_000**0.5
    assert np.all(np.abs(bound.mean(0) - any_order_nll(biased_logits, X)) < 4 * error)
    np.testing.assert_allclose(found.weight.sum(-1), 4.0, rtol=1e-6)
    padded = X.at[:, 1:].set(PAD)
    for scored in (
        ar.token_scores(SOURCE.causal_logits, {}, padded, jax.random.key(1)),
        mdlm.token_scores(biased_logits, {}, padded, jax.random.key(1)),
    ):
        np.testing.assert_allclose(scored.weight, jnp.eye(4)[:1].repeat(4, 0))
        np.testing.assert_array_equal(scored.hidden_share[:, 0], 1.0)


def test_predictions_are_of_text_alone():
    """The likeliest token is a text token, also if MASK has the largest logit."""
    logits = jnp.zeros((1, 2, 7)).at[..., MASK].set(9.0).at[..., 5].set(jnp.log(2.0))
    p, is_correct = predictions(logits, jnp.array([[5, 6]]))
    np.testing.assert_allclose(p, [[0.5, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(is_correct, [[True, False]])


@pytest.mark.parametrize("is_bound", [False, True])
def test_the_oracle_is_calibrated_and_its_rival_is_not(is_bound):
    """True conditionals: only chance is left. Sharpened ones claim too much."""
    windows = draw(1_500)
    kwargs = {"key": KEY, "num_draws": 4, "batch_size": 500}
    predictions = calibration.predict(model(is_bound), {}, windows, **kwargs)
    found = calibration.calibration(predictions, 50)["expected_calibration_error"]
    assert found["value"] < 0.025
    if is_bound:

        def sharp(params, z, t):
            return 3.0 * SOURCE.timed_logits(params, z, t)

        predictions = calibration.predict(model(True, sharp), {}, windows, **kwargs)
        worse = calibration.calibration(predictions, 50)["expected_calibration_error"]
        assert worse["low"] > 0.1


def predictions_by_hand():
    """Two windows of three tokens, with confidences in three of the 15 bins."""
    return Predictions(
        nats=np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]], np.float32),
        confidence=np.array([[0.99, 0.95, 0.5], [0.5, 0.1, 0.7]], np.float32),
        is_correct=np.array([[True, False, True], [False, True, True]]),
        weight=np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 0.0]], np.float32),
        hidden_share=np.array([[1.0, 2 / 3, 1 / 3], [1.0, 0.1, 1 / 3]], np.float32),
        position=np.tile(np.arange(3), (2, 1)),
    )


def test_calibration_by_hand():
    """|1 - 1.94| + |1 - 1| + |2 - 0.2| over a weight of 6."""
    found = calibration.calibration(predictions_by_hand(), 20)
    value = found["expected_calibration_error"]["value"]
    np.testing.assert_allclose(value, (0.94 + 0.0 + 1.8) / 6, rtol=1e-6)
    assert [row["share"] for row in found["bins"]] == pytest.approx([2 / 6] * 3)
    assert [row["accuracy"] for row in found["bins"]] == pytest.approx([1, 0.5, 0.5])


def test_losses_by_bin_by_hand():
    """Weighted means of the nats whose hidden share or position falls in the bin."""
    rows = calibration.loss_by_hidden_share(predictions_by_hand(), 20)
    found = {row["hidden_share"]: row["value"] for row in rows}
    assert found == pytest.approx({0.1: 5.0, 0.4: 3.0, 0.7: 2.0, 1.0: 2.5})
    rows = calibration.loss_by_position(predictions_by_hand(), 20)
    found = {row["position"]: row["value"] for row in rows}
    assert found == pytest.approx({1.0: 2.5, 2.0: 4.0, 3.0: 3.0})


def test_positions_are_named_by_the_last_one_of_their_bin():
    """20 positions in 16 bins: some bins have two positions, and others one."""
    position = np.tile(np.arange(20), (2, 1))
    ones = np.ones((2, 20), np.float32)
    found = Predictions(ones, ones, ones > 0, ones, ones, position)
    names = [row["position"] for row in calibration.loss_by_position(found, 20)]
    bins = np.arange(20) * 16 // 20
    assert names == [1 + np.flatnonzero(bins == b)[-1] for b in range(16)]


@pytest.mark.parametrize("is_bound", [False, True])
def test_scores_hold_what_was_promised(is_bound):
    """Promised keys, perplexities from sums divided once, and details of both kinds."""
    windows = draw(12)
    windows[3, 2:] = PAD
    found = score(model(is_bound), windows, detail_windows=5)
    promised = "nats_per_token bits_per_byte is_bound standard_error num_tokens"
    assert {*promised.split(), "num_bytes", "num_draws"} <= found.keys()
    total = sum(found["window_nats"])
    np.testing.assert_allclose(found["nats_per_token"], total / found["num_tokens"])
    assert found["perplexity_per_token"] == pytest.approx(np.exp(total / 46))
    assert found["perplexity_per_word"] == pytest.approx(np.exp(total / 50))
    assert found["data_low"] < found["nats_per_token"] < found["data_high"]
    assert {"calibration", "by_position", "by_hidden_share"} <= found.keys()
    assert ("by_draws" in found) == is_bound
    if is_bound:
        assert [point["num_draws"] for point in found["by_draws"]] == [2, 4]
    assert not any(isinstance(v, list | dict) for v in without_lists(found).values())


def test_every_interval_is_that_of_a_ratio_of_sums():
    """Of 200 windows, half have one token of 5 nats, half four of 1 nat each: 9 nats
    for 5 tokens, where the mean over windows would be 3."""

    def log_likelihood(params, x, *rest):
        return -jnp.where((x != PAD).sum(axis=1) == 1, 5.0, 4.0)

    def bound(*args):
        return log_likelihood(*args), jnp.zeros(args[1].shape[0])

    windows = draw(200)
    windows[::2, 1:] = PAD
    lm = model(True)._replace(log_likelihood=bound)
    found = score(lm, windows, detail_windows=0)
    assert found["nats_per_token"] == pytest.approx(9 / 5)
    assert found["data_low"] < 9 / 5 < found["data_high"] < 2.3


@pytest.mark.parametrize("is_bound", [False, True])
def test_scores_do_not_depend_on_the_batch(is_bound):
    """Every number, details included, in batches of 3 and all at once."""
    windows = draw(7)
    whole = score(model(is_bound, biased_logits), windows)
    parts = score(model(is_bound, biased_logits), windows, batch_size=3)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        parts,
        whole,
    )


def test_a_family_without_options_has_a_score_all_the_same():
    """A third family needs the four functions and no more."""
    lm = model(False)._replace(diagnostics=None)
    found = score(lm, draw(5), detail_windows=5)
    assert {"nats_per_token", "perplexity_per_word"} <= found.keys()
    assert not {"calibration", "by_draws"} & found.keys()


def test_windows_of_only_ends_of_stories_are_scored():
    """EOS is a token like any other: it costs what the model says."""
    x = np.full((2, 4), EOS, np.uint16)
    found = score(model(True, lambda p, z, t: jnp.zeros((*z.shape, 7))), x)
    np.testing.assert_allclose(found["nats_per_token"], np.log(3.0), rtol=1e-5)


def test_bootstrap_over_windows_covers_the_entropy():
    """Of 100 sets of 60 windows, 95% have the source's own nats in their interval."""
    truth = -(SOURCE.p * np.log(SOURCE.p)).sum() / 4
    hits = 0
    lm = model(False)
    nats = -SOURCE.log_p(SOURCE.x)
    lookup = jnp.asarray(nats, jnp.float32)

    def log_likelihood(params, x, key, num_draws):
        code = ((x - 4) * jnp.array([[27, 9, 3, 1]])).sum(-1)
        return -lookup[code], jnp.zeros(x.shape[0])

    lm = lm._replace(log_likelihood=log_likelihood, diagnostics=None)
    for seed in range(100):
        found = score(lm, draw(60, seed), num_resamples=200, batch_size=60)
        hits += found["data_low"] <= truth <= found["data_high"]
    assert 0.88 <= hits / 100 <= 0.99


@pytest.mark.parametrize("is_bound", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_a_stride_scores_each_token_once_given_those_in_view(is_bound, stride):
    """A text of 11 tokens through windows of 4, against the sum over its tokens of the
    enumerated -log p(x_i | tokens before it in its window)."""
    text = draw(3, seed=2).ravel()[:11]
    exact = 0.0
    for i in range(11):
        window = max(-(-(i + 1 - 4) // stride), 0)  # the first that holds token i
        seen = text[window * stride : i + 1]
        fits = (SOURCE.x[:, : len(seen)] == seen).all(1)
        before = (SOURCE.x[:, : len(seen) - 1] == seen[:-1]).all(1)
        exact -= np.log(SOURCE.p[fits].sum() / SOURCE.p[before].sum())
    windows, num_given, document, _ = pack_all([text], 4, "stream", stride)
    found = score(
        model(is_bound),
        windows,
        num_draws=512,
        detail_windows=0,
        num_given=num_given,
        document=document,
    )
    assert found["num_tokens"] == sum(found["window_tokens"]) == 11
    assert (found["standard_error"] > 0) == is_bound
    nats = 11 * found["nats_per_token"]
    assert abs(nats - exact) < 4 * 11 * found["standard_error"] + 1e-3
    (line,) = found["documents"]
    assert line["num_tokens"] == 11 and line["nats"] == pytest.approx(nats)
    if is_bound:
        assert line["standard_error"] == pytest.approx(11 * found["standard_error"])


def test_details_need_windows_that_do_not_overlap():
    """They are of all tokens of a window, not only of those that are scored there."""
    with pytest.raises(ValueError, match="do not overlap: set it to 0"):
        score(model(True), draw(2), num_given=np.array([0, 2]), detail_windows=2)
