"""Memory that is freed stays in the process."""

import dataclasses
import subprocess
import sys

import pytest

from experiments.configs import tiny, tinystories_cpu
from lm_jax.config import Config
from lm_jax.training.malloc import HEAP_BYTES, step_bytes

FAULTS = """
import ctypes, resource, sys
from lm_jax.config import Config
from lm_jax.training.malloc import disable_malloc_trim

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        block = libc.malloc(ctypes.c_size_t(40 * 2**20))
        ctypes.memset(block, 1, 40 * 2**20)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = faults()
assert disable_malloc_trim(Config())
faults()
print(default, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_freed_memory_is_not_given_back():
    """40 MB, allocated, filled and freed ten times, fault pages in once, not always."""
    run = [sys.executable, "-c", FAULTS]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    default, kept = map(int, done.stdout.split())
    assert kept < default / 10


def test_only_steps_that_outgrow_a_heap_share_an_arena():
    """The recipes that were timed, and a batch that is twice as large."""
    small, large = (
        Config.from_dict(recipe.get_config().to_dict())
        for recipe in (tiny, tinystories_cpu)
    )
    assert step_bytes(small) < HEAP_BYTES < step_bytes(large)
    twice = dataclasses.replace(small.train, batch_size=2 * small.train.batch_size)
    assert step_bytes(dataclasses.replace(small, train=twice)) > HEAP_BYTES
