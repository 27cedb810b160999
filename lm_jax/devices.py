"""Choices that depend on the machine: every "auto" of a config, and CPU threads."""

import dataclasses
import os
import time

import jax
import jax.numpy as jnp

from lm_jax.config import Config, ModelConfig, require


def resolve_auto(
    cfg: Config, backend: str | None = None, num_devices: int | None = None
) -> Config:
    """The config of one family, with a choice in place of every "auto".

    Attention is "cudnn" (fused) on a GPU in bfloat16 if the head width allows it, else
    "xla". A family's own section chooses by `resolve_auto`, if it has any "auto".

    Args:
      cfg: configuration from `Config.of_family`.
      backend, num_devices: "cpu" or "gpu", and the number of devices of all processes;
        default: those of JAX.

    Raises:
      ValueError: the config asks for cudnn where it cannot run.
    """
    on_gpu = (backend or jax.default_backend()) in ("gpu", "cuda")
    count = jax.device_count() if num_devices is None else num_devices
    model = cfg.model
    if model.attention == "auto":
        kernel = "cudnn" if on_gpu and _has_cudnn(model) else "xla"
        model = dataclasses.replace(model, attention=kernel)
    require(
        model.attention != "cudnn" or (on_gpu and _has_cudnn(model)),
        "ModelConfig.attention='cudnn' needs a GPU, dtype='bfloat16' and a head width "
        "that is a multiple of 8: choose attention='auto'",
    )
    families = {name: own.resolve_auto(count) for name, own in cfg.families.items()}
    return dataclasses.replace(cfg, model=model, families=families)


def _has_cudnn(model: ModelConfig) -> bool:
    return model.dtype == "bfloat16" and (model.width // model.num_heads) % 8 == 0


def num_threads() -> int:
    """Threads that XLA computes with on a CPU: NPROC if it is set, else one a core."""
    if asked := os.environ.get("NPROC", ""):
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def matmul_flops_per_second(dtype: str, size: int = 1024) -> float:
    """Measured speed of the product of two square matrices on one device."""
    square = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(square, square))
    start = time.perf_counter()
    for _ in range(4):
        jax.block_until_ready(product(square, square))
    return 4 * 2 * size**3 / (time.perf_counter() - start)
