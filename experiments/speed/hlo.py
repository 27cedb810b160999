"""Facts about a compiled program, parsed from its HLO text."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
BYTES |= {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute")
COLLECTIVES += ("reduce-scatter",)
FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element"}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?([\w.\-]+) = (\((?:[^=]|index=)*?\)|\S+) ([\w\-]+)\("
)
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
_RUNS = re.compile(
    r"(?:calls|to_apply|body|condition|(?:true|false)_computation"
    r"|branch_computations)=(\{[^}]*\}|\S+)"
)
_NAME = re.compile(r"[\w.\-]+")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_BODY = re.compile(r"body=%?([\w.\-]+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_PARENTHESES = re.compile(r"\(([^()]*)\)")


class Instruction(NamedTuple):
    """One HLO line: its computation, name, result type, operation, and whole text."""

    computation: str
    name: str
    result: str
    operation: str
    line: str


class Shape(NamedTuple):
    """Element type and dimensions of one array."""

    dtype: str
    dims: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size of the whole array in bytes."""
        return BYTES.get(self.dtype, 4) * math.prod(self.dims)


def instructions(text: str) -> Iterator[Instruction]:
    """All instructions of all computations of a module."""
    computation = ""
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            computation = head[2]
        elif found := _INSTRUCTION.match(line):
            yield Instruction(computation, found[1], found[2], found[3], line)


def shapes(result: str) -> list[Shape]:
    """ "(f32[2,3]{1,0}, s32[])" -> the two arrays."""
    return [
        Shape(dtype, tuple(int(size) for size in dims.split(",") if size))
        for dtype, dims in _ARRAY.findall(result)
    ]


def facts(compiled: Any) -> dict[str, Any]:
    """`facts_of` a jax `Compiled`, and its memory, FLOPs and bytes per call.

    FLOPs and bytes are None if the compiler does not count them.
    """
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    return facts_of(compiled.as_text()) | {
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "donated_bytes": memory.alias_size_in_bytes,
        "counted_flops": cost.get("flops"),
        "bytes_accessed": cost.get("bytes accessed"),
    }


def facts_of(text: str) -> dict[str, Any]:
    """Facts about the HLO text of a module.

    Returns:
      num_kernels: number of instructions that do work and are not inside a fusion.
      num_fusions: number of these that are fusions.
      custom_calls: number of calls by target.
      float32_products: shapes of result and operands of every matrix product of two
        float32 arrays.
      largest_float32: shape of the largest float32 array in memory.
      communicated_bytes: size of the whole arrays that collectives sum, gather or
        scatter, by kind. In a ring a device sends about that; all-reduce twice that. A
        collective in a loop counts once per iteration; both branches of a conditional
        count.
    """
    lines = list(instructions(text))
    results = {line.name: line.result for line in lines}
    # Results inside fusions and reductions are in registers, not in memory.
    inner = {name for line in lines for name in _CALLED.findall(line.line)}
    outer = [line for line in lines if line.computation not in inner]
    kernels = [line for line in outer if line.operation not in FREE]
    arrays = [shape for line in kernels for shape in shapes(line.result)]
    floats = [shape for shape in arrays if shape.dtype == "f32"]
    largest = max(floats, key=lambda shape: shape.num_bytes, default=None)
    communicated: Counter[str] = Counter()
    iterations = _iterations(lines)
    for line in outer:
        kind = line.operation.removesuffix("-start")
        if kind in COLLECTIVES:
            sizes = [shape.num_bytes for shape in shapes(line.result)]
            is_pair = kind != line.operation and len(sizes) > 1  # operand, then result
            size = sizes[-1] if is_pair else sum(sizes)
            given = sum(
                shape.num_bytes
                for name in _operands(line)
                for shape in shapes(results.get(name, ""))
            )
            communicated[kind] += max(size, given) * iterations(line.computation)
    targets = Counter(t for line in lines for t in _TARGET.findall(line.line))
    return {
        "num_kernels": len(kernels),
        "num_fusions": sum(line.operation == "fusion" for line in kernels),
        "custom_calls": dict(targets),
        "float32_products": list(_float32_products(lines, results)),
        "largest_float32": list(largest.dims) if largest else None,
        "communicated_bytes": dict(communicated),
    }


def _iterations(lines: list[Instruction]) -> Callable[[str], int]:
    """computation -> how often it runs: the product of the enclosing loops' counts."""
    callers: dict[str, tuple[str, int]] = {}  # computation -> caller, count
    for line in lines:
        for names in _RUNS.findall(line.line):
            callers |= dict.fromkeys(_NAME.findall(names), (line.computation, 1))
        if line.operation == "while" and (body := _BODY.search(line.line)):
            found = _TRIP_COUNT.search(line.line)
            callers[body[1]] = (line.computation, int(found[1]) if found else 1)

    def iterations(computation: str) -> int:
        if computation not in callers:
            return 1
        caller, count = callers[computation]
        return count * iterations(caller)

    return iterations


def _float32_products(
    lines: list[Instruction], results: dict[str, str]
) -> Iterator[list[list[int]]]:
    for line in lines:
        targets = _TARGET.findall(line.line)
        if line.operation != "dot" and not any(
            "matmul" in t or "gemm" in t for t in targets
        ):
            continue
        operands = [shapes(results.get(name, "")) for name in _operands(line)[:2]]
        if operands and all(o and o[0].dtype == "f32" for o in operands):
            product = [shapes(line.result)[0], *(o[0] for o in operands)]
            yield [list(shape.dims) for shape in product]


def _operands(line: Instruction) -> list[str]:
    """The names of the operands of an instruction."""
    after = line.line.partition(f" {line.operation}")[2]
    found = _PARENTHESES.match(after)
    return re.findall(r"%?([\w.\-]+)(?:,|$)", found[1]) if found else []
