"""Runs of the training loop in milliseconds: a stand-in for the model, six steps."""

import itertools
from typing import Any

import jax.numpy as jnp
from fake_models import LENGTH, VOCAB, batches, noisy_bigram

from lm_jax.config import Config, ModelConfig, OptimizerConfig, TrainConfig
from lm_jax.training import hooks, loop


def config(**options):
    """Six steps; lines, evaluations and saves fall on different ones."""
    values: dict[str, Any] = {
        "num_steps": 6,
        "batch_size": 16,
        "log_every": 2,
        "eval_every": 4,
        "save_every": 2,
        "ema": 0.5,
    } | options
    return Config(
        model=ModelConfig(length=LENGTH, vocab_size=VOCAB),
        optimizer=OptimizerConfig(learning_rate=0.1, warmup_steps=2),
        train=TrainConfig(**values),
    )


def evaluate(params):
    return {"nats_per_token": float(jnp.sum(jnp.square(params["bias"])))}


def run(workdir, *, lm=None, x=None, stop_after=None, mesh=None, **options):
    """Trains with fresh objects: nothing survives but `workdir`."""
    x = batches(16) if x is None else x
    evaluation = options.pop("evaluate", evaluate)
    steps = itertools.count(1)
    cfg = config(**options)
    state = loop.train(
        lm or noisy_bigram(),
        cfg,
        x,
        workdir,
        cfg.train.num_steps,
        hooks=[hooks.validate(cfg.train.eval_every, evaluation)],
        mesh=mesh,
        task="noisy",
        should_stop=lambda: next(steps) == stop_after,
    )
    return state, x.get_state()


def changed_batches(change):
    """The batches, each as change(step, x) leaves it."""
    x = batches(16)

    class Changed(type(x)):
        def __next__(self):
            step = self.get_state()["next_index"] + 1
            return change(step, super().__next__())  # pyright: ignore

    x.__class__ = Changed
    return x
