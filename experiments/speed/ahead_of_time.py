"""Training steps compiled for devices that need not be there."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from experiments.families import FAMILIES, own_configs
from lm_jax import sharding
from lm_jax.config import Config
from lm_jax.training.optimizer import make_optimizer
from lm_jax.training.train_step import init_state, make_train_step


def compile_step(cfg: Config, label: str, devices: Sequence[Any]) -> Any:
    """The step of "AR" or "MDLM" that a run of `cfg` would take on these devices.

    Returns:
      jax's `Compiled`, whose memory and text are those of one device.
    """
    lm = FAMILIES[label](own_configs(cfg)[label])
    tx = make_optimizer(cfg.optimizer, cfg.train.num_steps)

    def init():
        return init_state(lm, tx, jax.random.key(0))

    state = jax.eval_shape(init)
    accumulation = cfg.train.accumulation
    if len(devices) == 1:
        rows = SingleDeviceSharding(devices[0])
        places = jax.tree.map(lambda _: rows, state)
    else:
        microbatch = cfg.train.batch_size // accumulation
        mesh = sharding.make_mesh(microbatch, devices, cfg.train.fsdp_devices)
        rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        places = sharding.shardings(mesh, state)
    step = make_train_step(
        lm,
        tx,
        jax.random.key(1),
        accumulation=accumulation,
        shardings=places,
    )
    shape = (cfg.train.batch_size, cfg.model.length)
    x = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=rows)
    return step.lower(jax.tree.map(_placed, state, places), x).compile()


def _placed(leaf: Any, place: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
