"""Settings of malloc: glibc keeps freed memory, which saves time on a CPU.

On a CPU, XLA allocates the temporary memory of every training step anew. By default
glibc returns freed blocks of that size to the kernel, which clears every page when they
are allocated again: a quarter to a third of the time of a step of the CPU recipes.
"""

import ctypes
import sys

from lm_jax.config import Config

# Parameters of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
HEAP_BYTES = 64 * 2**20  # largest heap of an arena, except the first arena
NEVER = -1


def disable_malloc_trim(cfg: Config) -> bool:
    """Keeps freed memory in this process; call it before JAX starts its threads.

    Each thread has an arena, whose blocks are at most HEAP_BYTES. If a step needs more,
    all threads share the first arena, which has no limit.

    Returns:
      Whether the settings were accepted; False if the allocator is not glibc's.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = [(M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER)]
    if step_bytes(cfg) > HEAP_BYTES:
        settings.append((M_ARENA_MAX, 1))
    return all([mallopt(*setting) for setting in settings])


def step_bytes(cfg: Config) -> float:
    """Rough temporary memory of a training step in bytes.

    It counts activations for the backward pass and logits, in float32, and multiplies
    them by 2.5 for other buffers.
    """
    model, rows = cfg.model, cfg.train.batch_size // cfg.train.accumulation
    per_layer = 4 * model.width + 3 * model.ffn_width
    per_token = model.vocab_size + model.num_layers * per_layer
    return 2.5 * 4.0 * rows * model.length * per_token
