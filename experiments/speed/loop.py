"""Speed of the training loop with a model of negligible cost.

The time of a step is then the host's work: drawing a batch, transfer, dispatch,
logging. The host runs up to eight steps ahead of the device, so a device with slower
steps never waits; a loader thread or tokens on the device would then save no time.
"""

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.speed import timing
from experiments.speed.training import reshaped
from lm_jax.config import Config, TrainConfig
from lm_jax.data.batches import train_batches
from lm_jax.language_model import LanguageModel
from lm_jax.training import hooks, metrics
from lm_jax.training.loop import train
from lm_jax.types import EOS, Params, PRNGKey, Rows, TokenNats, Tokens, Windows

STORE = 100_000_000  # bytes of training text in memory, two per token
STEPS = 400


def loop(
    cfg: Config, repeats: int, shapes: Sequence[str] = (), store: int = STORE
) -> dict[str, Any]:
    """Times whole runs of the training loop, from windows in memory to metrics.jsonl.

    Args:
      cfg: configuration with log_every and the default shape (batch_size, length).
      repeats: number of runs.
      shapes: shapes of batches; "32x512" is 32 windows of 512 tokens.
      store: bytes of training text.

    Returns:
      For each shape: seconds per step, and the tokens per second that the loop can
      feed. Compilation and saving are not included.
    """
    cfgs = [reshaped(cfg, shape) for shape in shapes] or [cfg]
    return {
        "store_bytes": store,
        "shapes": [_one_shape(c, repeats, store) for c in cfgs],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The results of `loop` as text."""
    text = []
    for part in found["shapes"]:
        batch = "x".join(map(str, part["batch"]))
        row = part["row"]
        low, middle, high = (1e3 * row[name] for name in ("low", "seconds", "high"))
        text += [
            "",
            f"training loop with a model of negligible cost, {batch} tokens",
            f"{middle:.2f} ms per step ({low:.2f} to {high:.2f}), "
            f"{row['tokens_per_second']:,.0f} tokens/s",
        ]
    return text


def _one_shape(cfg: Config, repeats: int, store: int) -> dict[str, Any]:
    batch, length = cfg.train.batch_size, cfg.model.length
    plan = TrainConfig(
        num_steps=STEPS,
        batch_size=batch,
        log_every=cfg.train.log_every,
        eval_every=STEPS,
        save_every=STEPS,
    )
    optimizer = dataclasses.replace(cfg.optimizer, warmup_steps=0)
    cfg = dataclasses.replace(cfg, train=plan, optimizer=optimizer)
    size = (max(store // (2 * length), batch), length)
    rng = np.random.default_rng(0)
    windows = rng.integers(EOS + 1, cfg.model.vocab_size, size, dtype=np.uint16)
    seconds = tuple(_seconds_a_step(cfg, windows) for _ in range(repeats))
    return {
        "batch": (batch, length),
        "row": timing.row(timing.Spread(seconds), batch * length),
    }


def _seconds_a_step(cfg: Config, windows: Windows) -> float:
    batches = train_batches(windows, cfg.train.batch_size, cfg.seed)
    with (
        tempfile.TemporaryDirectory() as workdir,
        contextlib.redirect_stderr(io.StringIO()),
    ):
        train(
            _negligible_model(),
            cfg,
            batches,
            workdir,
            num_steps=cfg.train.num_steps,
            hooks=[hooks.validate(cfg.train.eval_every, lambda params: _SCORES)],
        )
        timed_steps = STEPS - 1  # the first step compiles
        return metrics.read_summary(workdir)["seconds"] / timed_steps


_SCORES = {"nats_per_token": 0.0, "standard_error": 0.0}


def _negligible_model() -> LanguageModel:
    """A model with one parameter and a loss that reads each token once."""

    def init(key: PRNGKey) -> Params:
        del key
        return {"weight": jnp.zeros(())}

    def token_nll(
        params: Params, x: Tokens, key: PRNGKey, rows: Rows | None = None
    ) -> TokenNats:
        del key, rows
        return params["weight"] * x.astype(jnp.float32)

    def unused(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("this model is for the training loop alone")

    return LanguageModel(
        is_bound=False,
        flops_per_token=1.0,
        init=init,
        token_nll=token_nll,
        log_likelihood=unused,
        sample=unused,
    )
