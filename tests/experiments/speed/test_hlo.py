"""What is read from a compiled program, on programs that are known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.speed.hlo import facts, facts_of, shapes

# A long tuple has comments in it.
SUMS = "(f32[1]{0}, f32[1]{0}, f32[1]{0}, f32[1]{0}, f32[1]{0}, /*index=5*/f32[2]{0})"
GPU_TEXT = """
%fused_softmax (p: bf16[8,64]) -> bf16[8,64] {
  %p = bf16[8,64]{1,0} parameter(0)
  %wide = f32[8,64]{1,0} convert(%p)
  ROOT %narrow = bf16[8,64]{1,0} convert(%wide)
}

ENTRY %main (a: f32[8,16], b: f32[16,64]) -> (bf16[8,64], f32[4]) {
  %a = f32[8,16]{1,0} parameter(0)
  %b = f32[16,64]{1,0} parameter(1)
  %c = bf16[8,64]{1,0} fusion(%a, %b), kind=kCustom, calls=%fused_softmax
  %gemm = (f32[8,64], s8[32]) custom-call(%a, %b), custom_call_target="__cublas$gemm"
  %fmha = bf16[8,64] custom-call(%c, %c), custom_call_target="__cudnn$fmhaSoftmax"
  %v = f32[4]{0} constant({...})
  %u = f32[1]{0} constant({...})
  %w = f32[2]{0} constant({...})
  %sum-start = f32[4]{0} all-reduce-start(%v), to_apply=%add
  %sums = SUMS all-reduce(%u, %u, %u, %u, %u, /*index=5*/%w), to_apply=%add
  %part = f32[1]{0} reduce-scatter(%v), dimensions={0}, to_apply=%add
  ROOT %t = (bf16[8,64]{1,0}, f32[4]{0}) tuple(%c, %sum-start)
}
""".replace("SUMS", SUMS)


def test_a_gpu_program_is_read_line_by_line():
    """A fusion is one kernel, and what it computes inside is not in memory."""
    assert facts_of(GPU_TEXT) == {
        "num_kernels": 6,
        "num_fusions": 1,
        "custom_calls": {"__cublas$gemm": 1, "__cudnn$fmhaSoftmax": 1},
        "float32_products": [[[8, 64], [8, 16], [16, 64]]],
        "largest_float32": [8, 64],
        "communicated_bytes": {"all-reduce": 16 + 28, "reduce-scatter": 16},
    }


def test_shapes_are_types_and_dimensions():
    """Of a tuple, each; a scalar has no dimensions."""
    found = shapes("(bf16[2,3]{1,0}, s32[])")
    assert [(s.dtype, s.dims, s.num_bytes) for s in found] == [
        ("bf16", (2, 3), 12),
        ("s32", (), 4),
    ]


def test_a_program_of_this_machine_is_read_too():
    """One product of float32; none where the types are bfloat16."""
    a = jnp.ones((32, 32))
    found = facts(jax.jit(lambda a: a @ a).lower(a).compile())
    assert found["float32_products"] == [[[32, 32]] * 3]
    assert found["argument_bytes"] == 4 * 32 * 32


def test_bytes_of_collectives_are_those_of_their_results():
    """A mean over 8 devices sums one float32 vector of 16."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    x = jax.device_put(jnp.ones((8, 16)), rows)
    found = facts(jax.jit(lambda x: x.sum(axis=0)).lower(x).compile())
    assert found["communicated_bytes"] == {"all-reduce": 4 * 16}


def test_a_loop_communicates_every_time_it_turns():
    """Five turns, with a vector summed in each, and one sum behind them; a branch
    inside a loop is in it, too."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    rows = NamedSharding(mesh, PartitionSpec(None, "data"))
    x = jax.device_put(jnp.ones((5, 8, 16)), rows)

    def turn(total, y):
        add = partial(jnp.sum, axis=0)
        return total + jax.lax.cond(total[0] > 9.0, add, lambda y: -add(y), y), None

    def loop(x):
        total, _ = jax.lax.scan(turn, jnp.zeros(16), x)
        return total, x[0].max(axis=0)

    found = facts(jax.jit(loop).lower(x).compile())
    (communicated,) = found["communicated_bytes"].values()
    per_turn, rest = divmod(communicated - 4 * 16, 5)
    assert rest == 0 and per_turn in (4 * 16, 2 * 4 * 16)  # both ways, or moved out
