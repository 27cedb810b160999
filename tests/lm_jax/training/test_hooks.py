"""Hooks of the training loop: what they see, when, and what they write."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from fake_models import batches, noisy_bigram
from tiny_configs import FAMILIES, toy
from train_helpers import config, evaluate

from lm_jax import checkpoint, run
from lm_jax.training import hooks, loop
from lm_jax.training.optimizer import make_schedule
from mdlm_jax.config import MDLMConfig

CFG = config()


def train(workdir, *own):
    validate = hooks.validate(CFG.train.eval_every, evaluate)
    return loop.train(
        noisy_bigram(), CFG, batches(16), workdir, 6, hooks=[validate, *own]
    )


def lines(workdir, split):
    text = (workdir / "metrics.jsonl").read_text()
    return [x for x in map(json.loads, text.splitlines()) if x["split"] == split]


def test_a_hook_sees_every_step_and_its_parameters(tmp_path):
    """From step 0 on, with the scores of the validation before it."""
    seen = []

    def hook(event):
        norm = sum(float((x**2).sum()) for x in jax.tree.leaves(event.params()))
        seen.append((event.step, bool(event.scores), event.is_last, norm))

    state = train(tmp_path, hook)
    assert [step for step, *_ in seen] == [0, 1, 2, 3, 4, 5, 6]
    assert [step for step, is_scored, *_ in seen if is_scored] == [0, 4, 6]
    assert [step for step, _, is_last, _ in seen if is_last] == [6]
    last = sum(float((x**2).sum()) for x in jax.tree.leaves(state.averaged))
    assert seen[-1][3] == last and seen[0][3] != last


def test_lines_have_the_learning_rate_and_the_gradient_norm(tmp_path):
    """The rate is the one that the line's last step used: update n has count n - 1."""
    train(tmp_path)
    rate = make_schedule(CFG.optimizer, 6)
    found = lines(tmp_path, "train")
    assert [line["step"] for line in found] == [2, 4, 6]
    for line in found:
        expected = float(np.asarray(rate(line["step"] - 1)))
        assert line["learning_rate"] == pytest.approx(expected)
        assert line["grad_norm"] > 0.0


def test_a_gradient_norm_is_the_mean_over_the_steps_of_its_line(tmp_path):
    """A line for each step, against lines for two."""
    every = config(log_every=1)
    loop.train(noisy_bigram(), every, batches(16), tmp_path / "every", 6)
    train(tmp_path / "two")
    one = [line["grad_norm"] for line in lines(tmp_path / "every", "train")]
    two = [line["grad_norm"] for line in lines(tmp_path / "two", "train")]
    np.testing.assert_allclose(two, np.reshape(one, (3, 2)).mean(axis=1), rtol=1e-6)


def test_a_loss_is_the_mean_over_the_tokens_of_its_line(tmp_path):
    """Batches have different numbers of tokens: a line for two steps is no mean of
    their means."""
    every = config(log_every=1)
    loop.train(noisy_bigram(), every, batches(16), tmp_path / "every", 6)
    train(tmp_path / "two")
    one = lines(tmp_path / "every", "train")
    tokens = np.diff([0, *(line["tokens"] for line in one)]).reshape(3, 2)
    nats = np.array([line["nats_per_token"] for line in one]).reshape(3, 2)
    expected = (tokens * nats).sum(axis=1) / tokens.sum(axis=1)
    assert np.any(np.abs(expected - nats.mean(axis=1)) > 1e-4)
    two = [line["nats_per_token"] for line in lines(tmp_path / "two", "train")]
    np.testing.assert_allclose(two, expected, rtol=1e-6)


def test_samples_are_logged_while_training(tmp_path):
    """As texts, with the seconds that they took; their time is no training time."""
    drawn = []

    def draw(params):
        drawn.append(float(params["bias"][0]))
        return [f"text {len(drawn)}", "another"]

    train(tmp_path, hooks.sample(4, draw))
    found = lines(tmp_path, "samples")
    assert [line["step"] for line in found] == [4, 6]
    assert found[0]["texts"] == ["text 1", "another"]
    assert found[1]["seconds_sampling"] > 0.0 and len(set(drawn)) == 2


def test_a_checkpoint_is_chosen_by_name_or_step(tmp_path):
    """ "latest", "best" and a step, which is named with those that there are."""
    scores = iter([9.0, 1.0, 3.0])

    def score(params):
        return {"nats_per_token": next(scores)}

    loop.train(
        noisy_bigram(), CFG, batches(16), tmp_path, 6, hooks=[hooks.validate(4, score)]
    )
    directory = tmp_path / "checkpoints"
    for which, step in (("latest", 6), ("best", 4), (4, 4), ("6", 6)):
        assert checkpoint.restore_params(directory, which=which).step == step
    with pytest.raises(ValueError, match=r"no checkpoint 5.*latest, best.*4, 6"):
        checkpoint.restore_params(directory, which=5)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_run_shows_samples_while_it_trains(name, cache_dir, tmp_path):
    """A few texts with the run's own sampler; and the run knows its family and keeps
    that family's section alone."""
    cfg = toy(cache_dir)
    cfg = dataclasses.replace(
        cfg, train=dataclasses.replace(cfg.train, num_steps=4, sample_every=4)
    )
    cfg = dataclasses.replace(cfg, families={"mdlm": MDLMConfig(time_scale=10.0)})
    assert run.train(FAMILIES[name], cfg, tmp_path / "run")
    assert run.read_config(tmp_path / "run") == cfg.of_family(name)
    (line,) = lines(tmp_path / "run", "samples")
    assert line["step"] == 4 and len(line["texts"]) == run.NUM_PREVIEWS
    assert all(isinstance(text, str) for text in line["texts"])
    model = run.load(tmp_path / "run", checkpoint=4)
    assert (model.family.name, model.step) == (name, 4)
