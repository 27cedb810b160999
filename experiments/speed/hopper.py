"""Training steps compiled for an H200 on a machine that has no GPU.

    python -m experiments.speed.hopper

Kernels, fusions, temporary memory and cuDNN calls are those of a GPU; only the
algorithms of matrix products are chosen on the GPU itself. Needs the wheels of the
extra `cuda`, but no driver.
"""

import importlib.util
import json
from typing import Any

from jax.experimental import topologies

from experiments.families import FAMILIES
from experiments.speed.ahead_of_time import compile_step
from experiments.speed.hlo import facts
from lm_jax import command_line
from lm_jax.config import Config, ModelConfig, TrainConfig, require
from mdlm_jax.config import MDLMConfig

# Device properties for the compiler, from NVIDIA's data sheet and its CUDA guide.
H200 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H200"
dnn_version_info { major: 9 minor: 10 patch: 0 }
gpu_device_info {
  name: "NVIDIA H200"
  device_vendor: "NVIDIA Corporation"
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  l2_cache_size: 52428800
  memory_bandwidth: 4800000000000
  device_memory_size: 151397597184
  device_address_bits: 64
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}
"""

# The step of the paper: 32 x 512 tokens, 12 layers of width 768, GPT-2's vocabulary.
STUDY = Config(
    model=ModelConfig(
        length=512,
        vocab_size=50_257,
        width=768,
        num_layers=12,
        num_heads=12,
        ffn_width=2_048,
        dtype="bfloat16",
    ),
    families={"mdlm": MDLMConfig(head="masked")},
    train=TrainConfig(batch_size=32),
)


def is_installed() -> bool:
    """Whether the wheels of the CUDA plugin are installed."""
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    return any(importlib.util.find_spec(name) for name in plugins)


def devices(count: int = 1) -> list[Any]:
    """Descriptions of `count` H200s in one machine, for compilation.

    Raises:
      ValueError: if the wheels of the CUDA plugin are not installed.
    """
    require(
        is_installed(),
        "JAX has no CUDA plugin here, which it needs to compile for an H200: run pip "
        "install -e '.[cuda]'",
    )
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=H200, topology=f"1x1x{count}"
    )
    return list(topology.devices)


def main() -> None:
    """Runs the command."""
    steps = {name: compile_step(STUDY, name, devices()) for name in FAMILIES}
    found = {name: facts(step) for name, step in steps.items()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    command_line.run(main)
