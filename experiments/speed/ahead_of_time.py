"""Training steps, compiled ahead of time for devices that may be absent."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from experiments.families import FAMILIES, own_configs
from lm_jax import sharding
from lm_jax.config import Config
from lm_jax.devices import resolve_auto
from lm_jax.training.optimizer import make_optimizer
from lm_jax.training.train_step import init_state, make_train_step


def compile_step(cfg: Config, label: str, devices: Sequence[Any]) -> Any:
    """The training step of a run of `cfg` on these devices, for "AR" or "MDLM".

    Returns:
      jax's `Compiled`; its memory analysis and its text are for one device.
    """
    backend = devices[0].platform
    own = resolve_auto(own_configs(cfg)[label], backend, len(devices))
    lm = FAMILIES[label].build(own)
    tx = make_optimizer(cfg.optimizer, cfg.train.num_steps)

    def init():
        return init_state(lm, tx, jax.random.key(0))

    state = jax.eval_shape(init)
    accumulation = cfg.train.accumulation
    if len(devices) == 1:
        rows = SingleDeviceSharding(devices[0])
        shardings = jax.tree.map(lambda _: rows, state)
    else:
        microbatch = cfg.train.batch_size // accumulation
        mesh = sharding.make_mesh(microbatch, devices, cfg.train.fsdp_devices)
        rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        shardings = sharding.shardings(mesh, state)
    step = make_train_step(
        lm,
        tx,
        jax.random.key(1),
        accumulation=accumulation,
        shardings=shardings,
    )
    shape = (cfg.train.batch_size, cfg.model.length)
    x = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=rows)
    return step.lower(jax.tree.map(_with_sharding, state, shardings), x).compile()


def _with_sharding(leaf: Any, leaf_sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf_sharding)
