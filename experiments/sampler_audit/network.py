"""A network trained on a source: what a sampler makes of it is the total error."""

import jax

import mdlm_jax
from experiments.sampler_audit.sources import Source
from lm_jax import progress
from lm_jax.config import Config, ModelConfig, OptimizerConfig
from lm_jax.language_model import LanguageModel
from lm_jax.training.optimizer import make_optimizer
from lm_jax.training.train_step import init_state, make_train_step
from lm_jax.types import Params, PRNGKey

BATCH_SIZE = 32


def config(source: Source, length: int, num_steps: int) -> Config:
    """MDLM with its defaults, and a backbone of 0.2 million parameters."""
    model = ModelConfig(
        length=length,
        vocab_size=source.vocab_size,
        width=64,
        num_layers=4,
        num_heads=4,
        ffn_width=176,
    )
    return Config(
        model=model,
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=num_steps // 10, b2=0.98
        ),
    )


def train(
    source: Source, length: int, num_steps: int, key: PRNGKey
) -> tuple[LanguageModel, Params]:
    """MDLM after num_steps batches of fresh windows of the source.

    Step i draws its windows from fold_in(key, i), so that no window is seen twice.
    """
    cfg = config(source, length, num_steps)
    lm = mdlm_jax.FAMILY.make(cfg)
    tx = make_optimizer(cfg.optimizer, num_steps)
    of_init, of_masks, of_windows = jax.random.split(key, 3)
    state = init_state(lm, tx, of_init)
    step = make_train_step(lm, tx, of_masks)
    draw = jax.jit(
        lambda i: source.sample(jax.random.fold_in(of_windows, i), BATCH_SIZE, length)
    )
    for i in progress.over(range(num_steps), "training", "steps"):
        state, _ = step(state, draw(i))
    return lm, state.params
