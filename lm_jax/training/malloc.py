"""The C library's allocator, told to keep what it has: XLA asks for it every step.

On a CPU a training step allocates its temporary memory anew. By default glibc gives
freed blocks of that size back to the kernel, which then clears every page of the next
one: a quarter to a third of the time of a step of the CPU recipes.
"""

import ctypes
import sys

from lm_jax.config import Config

# Parameters of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
HEAP_BYTES = 64 * 2**20  # the largest heap of every arena but the first
NEVER = -1


def disable_malloc_trim(cfg: Config) -> bool:
    """Keeps freed memory in this process; call it before JAX starts its threads.

    Threads have arenas of their own, whose blocks cannot outgrow HEAP_BYTES. Larger
    steps share the first arena, which grows without limit.

    Returns:
      Whether the allocator took it; False where it is not glibc's.
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
    """Temporary memory of a training step, roughly: activations kept for the backward
    pass and the logits, in float32, times 2.5 for what lives beside them."""
    model, rows = cfg.model, cfg.train.batch_size // cfg.train.accumulation
    per_layer = 4 * model.width + 3 * model.ffn_width
    per_token = model.vocab_size + model.num_layers * per_layer
    return 2.5 * 4.0 * rows * model.length * per_token
