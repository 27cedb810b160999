"""Checks an installation: packages, devices, cache, and a training of each family.

It takes about ten seconds. The exit status is 0 if all is well, else 1.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lm_jax import command_line, devices, run, usage
from lm_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    require,
)
from lm_jax.keys import Stream, stream
from lm_jax.language_model import Family, load_family
from lm_jax.training.optimizer import make_optimizer
from lm_jax.training.train_step import init_state, make_train_step
from lm_jax.types import NUM_NON_TEXT

FAMILIES = ("ar", "mdlm")  # those of this repository; each is <name>_jax.FAMILY
NUM_STEPS = 30
CFG = Config(
    model=ModelConfig(
        length=16, vocab_size=64, width=32, num_layers=1, num_heads=2, ffn_width=64
    ),
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
)


def main() -> None:
    """Prints what `check` finds; an error becomes one sentence and status 1."""
    try:
        check()
    except Exception as error:
        if "--traceback" in sys.argv:
            raise
        print(f"error: {usage.explain(error)[0]}", file=sys.stderr)
        sys.exit(1)


def check() -> None:
    """Prints facts about the installation, and trains each family.

    Raises:
      ValueError: no family can be imported, or one does not learn.
    """
    for name, version in run.versions().items():
        print(name, version)
    for line in (*machine(), *cache(Path(DataConfig().cache_dir))):
        print(line, flush=True)
    num_trained = 0
    for name in FAMILIES:
        try:
            family = load_family(name)
        except ValueError as error:
            print(error)
            continue
        first, last = train(family)
        print(f"{name}: trained {NUM_STEPS} steps, loss {first:.2f} -> {last:.2f}")
        require(last < first, f"{name} does not learn: its loss does not fall")
        num_trained += 1
    require(num_trained > 0, "no family can be imported: run pip install -e .")
    print("all is well")


def machine() -> Iterator[str]:
    """Devices, attention kernel and processor cores."""
    kinds = [f"{device.platform} ({device.device_kind})" for device in jax.devices()]
    yield f"JAX devices: {', '.join(kinds)}"
    yield f"cuDNN attention: {cudnn()}"
    yield f"cores: {os.cpu_count()}; threads on a CPU: {devices.num_threads()}"


def cudnn() -> str:
    """Whether cuDNN attention can be used, and why not."""
    model = ModelConfig(dtype="bfloat16", attention="cudnn")
    q = jnp.zeros((1, 128, 1, 64), jnp.bfloat16)
    try:
        devices.resolve_auto(Config(model=model))
        jax.block_until_ready(
            jax.nn.dot_product_attention(q, q, q, implementation="cudnn")
        )
    except Exception as error:  # JAX raises many types
        reason = usage.explain(error)[0].partition("; --")[0]
        return f"not on this machine ({reason}); attention is computed by XLA"
    return "yes, with model.dtype=bfloat16"


def cache(directory: Path) -> Iterator[str]:
    """Where prepared corpora lie, and their size."""
    path = directory.expanduser()
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    yield f"cache: {path}, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB"


def train(family: Family) -> tuple[float, float]:
    """Mean loss of the first and of the last five steps, on one random batch."""
    lm = family.make(CFG)
    tx = make_optimizer(CFG.optimizer, NUM_STEPS)
    step = make_train_step(lm, tx, stream(0, Stream.STEPS))
    state = init_state(lm, tx, stream(0, Stream.INIT))
    ids = np.random.default_rng(0).integers(NUM_NON_TEXT, 12, (32, 16))
    losses = []
    for _ in range(NUM_STEPS):
        state, metrics = step(state, jnp.asarray(ids))
        losses.append(float(metrics["loss"]))
    return float(np.mean(losses[:5])), float(np.mean(losses[-5:]))


if __name__ == "__main__":
    command_line.run(main)
