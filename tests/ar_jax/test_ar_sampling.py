"""AR's sampler: exact against a source whose law is known, cached as without_cache."""

from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampler_distributions import (
    LEFT_TO_RIGHT,
    Table,
    assert_law,
    conditional,
    draw_by,
    table,
)

import ar_jax
from ar_jax import sampling as ar
from lm_jax.config import Config, ModelConfig, SampleConfig
from lm_jax.types import EOS, MASK

pytestmark = pytest.mark.usefixtures("fast_compilation")

NUM = 10_000
SOURCE = Table(length=4)
SOURCE_WITH_EOS = Table(length=4, first=EOS)


def test_ar_reproduces_its_source():
    """Exact conditionals give exact samples: x ~ p, over all 81 sequences."""
    assert_law(draw_by(LEFT_TO_RIGHT, SOURCE, 0, (NUM, 4)), table(SOURCE))


def test_ar_is_silent_after_eos():
    """A row that has drawn EOS is EOS to its end, and its beginning is x ~ p."""
    law = defaultdict(float)
    for x, p in table(SOURCE_WITH_EOS).items():
        end = x.index(EOS) if EOS in x else 4
        law[x[:end] + (EOS,) * (4 - end)] += p
    assert_law(draw_by(LEFT_TO_RIGHT, SOURCE_WITH_EOS, 1, (NUM, 4)), law)


def test_ar_continues_a_prompt():
    """p(x | prompt), and an EOS inside the prompt ends nothing."""
    prompt = (EOS, 5)
    law = defaultdict(float)
    for x, p in table(SOURCE_WITH_EOS).items():
        if x[:2] == prompt:
            law[x[:3] + (EOS,) if x[2] == EOS else x] += p
    law = {x: p / sum(law.values()) for x, p in law.items()}
    template = (*prompt, MASK, MASK)
    assert_law(draw_by(LEFT_TO_RIGHT, SOURCE_WITH_EOS, 2, (NUM, 4), template), law)


def test_ar_stops_when_every_row_has_ended():
    """The loop runs to the last row's EOS, not to the end of the window."""
    positions = []

    def decode(params, cache, token, position):
        jax.debug.callback(lambda at: positions.append(int(at)), position)
        is_late = jnp.where(position >= jnp.arange(2), 50.0, -50.0)
        return jnp.zeros((2, 6)).at[:, EOS].set(is_late), cache

    key, cfg = jax.random.key(0), SampleConfig()
    written = ar.sample(lambda *_: (), decode, {}, key, (2, 9), cfg, traced=True)
    jax.effects_barrier()
    assert sorted(positions) == [0, 1]
    np.testing.assert_array_equal(written.tokens, [[EOS] * 9, [5] + [EOS] * 8])
    assert written.nfe == 2
    np.testing.assert_array_equal(written.nfe_per_row, [1, 2])
    np.testing.assert_array_equal(written.unmask_step, [[0] * 9, [0] + [1] * 8])
    history = np.asarray(written.history)
    np.testing.assert_array_equal(history[0, 1], [5] + [MASK] * 8)


@pytest.mark.parametrize("num_given", [0, 4])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_a_cache_that_grows_gives_the_text_of_a_whole_one(
    num_given, penalty, monkeypatch
):
    """Also where the prompt is longer than the first part, and rows end early."""
    model = ModelConfig(
        length=12, vocab_size=12, width=16, num_layers=2, num_heads=2, ffn_width=24
    )
    lm = ar_jax.language_model(Config(model=model))
    params, cfg = lm.init(jax.random.key(0)), SampleConfig(repetition_penalty=penalty)
    template = np.full((NUM // 100, 12), MASK, np.int32)
    template[:, :num_given] = [7, 8, 9, 7][:num_given]

    def draw(ends):
        monkeypatch.setattr(ar, "_cache_lengths", lambda length: ends)
        return lm.sample(params, jax.random.key(1), template.shape, cfg, template)

    whole, grown = draw([12]), draw([3, 5, 12])
    assert len(np.unique(whole.nfe_per_row)) > 5 and np.max(whole.nfe_per_row) == 12
    # The sums of a longer cache are split in another way.
    log_p = [np.asarray(output.log_p) for output in (grown, whole)]
    np.testing.assert_allclose(*log_p, rtol=1e-5)
    alike = [output._replace(log_p=None) for output in (grown, whole)]
    jax.tree.map(np.testing.assert_array_equal, *alike)


def test_a_cache_grows_to_the_window_in_a_few_parts():
    """Parts of at least 128 places: each is another program to compile."""
    for length in (2, 127, 255, 256, 300, 511, 512, 1_000, 4_096):
        ends = ar._cache_lengths(length)
        assert ends == sorted(set(ends)) and ends[-1] == length and len(ends) <= 4
        assert len(ends) == 1 or np.all(np.diff([0, *ends]) >= 128)


def test_greedy_ar_takes_the_likeliest_token():
    """At temperature 0: x_l = argmax p(x_l | x_{<l}), whatever the key."""
    x = [MASK] * 4
    for at in range(4):
        x[at] = int(conditional(SOURCE, tuple(x))[at].argmax())
    for seed in (0, 1):
        drawn = draw_by(LEFT_TO_RIGHT, SOURCE, seed, (2, 4), temperature=0.0)
        np.testing.assert_array_equal(drawn, [x] * 2)


def test_ar_penalises_what_is_written():
    """p(x_l | x_<l) with the negative logits of x_<l doubled, prompt included."""
    law = {(5, MASK, MASK, MASK): 1.0}
    for at in range(1, 4):
        after = defaultdict(float)
        for z, weight in law.items():
            p = conditional(SOURCE, z)[at]
            p = np.where(np.isin(np.arange(16), z[:at]), p**2, p)
            for token in (5, 6, 7):
                z_s = (*z[:at], token, *z[at + 1 :])
                after[z_s] += weight * p[token] / p.sum()
        law = after
    settings = {"repetition_penalty": 2.0}
    x = draw_by(LEFT_TO_RIGHT, SOURCE, 15, (NUM, 4), (5, MASK, MASK, MASK), **settings)
    assert_law(x, law)
