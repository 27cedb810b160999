"""Checkpoints of llama2.c: version 1, and the legacy files without a magic number.

Layouts: export.py of github.com/karpathy/llama2.c. All numbers are little-endian, and
matrices are stored row by row as (out, in). Heads rotate interleaved pairs.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy import ndarray

from lm_jax.convert.llama import Llama, require_usable
from lm_jax.convert.safetensors_files import Tensors, require_no_pickle
from lm_jax.validation import require

MAGIC = 0x616B3432  # "ak42"
HEADER_BYTES = 256  # of version 1
NORM_EPSILON = 1e-5
DELIMITER = 1  # begins and ends every text
MATRICES = {
    "wq": "self_attn.q_proj",
    "wk": "self_attn.k_proj",
    "wv": "self_attn.v_proj",
    "wo": "self_attn.o_proj",
    "w1": "mlp.gate_proj",
    "w2": "mlp.down_proj",
    "w3": "mlp.up_proj",
}


def read(path: Path) -> tuple[Llama, Tensors]:
    """Configuration and tensors, with the names and the layout of transformers.

    Raises:
      ValueError: the file is damaged, or of another format.
      OSError: it cannot be read.
    """
    data = path.read_bytes()
    require_no_pickle(path, data)
    require(
        len(data) >= HEADER_BYTES,
        f"{path} has {len(data)} bytes, too few for a checkpoint of llama2.c: copy it "
        "again",
    )
    magic, version = struct.unpack_from("<Ii", data)
    if magic == MAGIC:
        require(
            version == 1,
            f"{path} is of version {version} of llama2.c's format, and only float32 of "
            "version 1 is read: export it with --version 1",
        )
        sizes, offset = struct.unpack_from("<7i", data, 8), HEADER_BYTES
        is_tied = data[36] == 1
    else:
        sizes, offset = struct.unpack_from("<7i", data), 28
        is_tied = sizes[5] > 0
    width, ffn_width, num_layers, num_heads, num_kv_heads, vocab_size, length = sizes
    llama = Llama(
        vocab_size=abs(vocab_size),
        width=width,
        ffn_width=ffn_width,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        length=length,
        norm_epsilon=NORM_EPSILON,
        rope_base=10_000.0,
        is_tied=is_tied,
        bos=DELIMITER,
        eos=DELIMITER,
    )
    require_usable(path, llama)
    layout = _version_1(llama) if magic == MAGIC else _legacy(llama)
    num_numbers = sum(math.prod(shape) for _, shape in layout)
    require(
        len(data) == offset + 4 * num_numbers,
        f"{path} has {len(data):,} bytes, and a checkpoint of llama2.c with its sizes "
        f"has {offset + 4 * num_numbers:,}: it is cut off, or no such file",
    )
    stacked = {}
    for name, shape in layout:
        size = math.prod(shape)
        stacked[name] = np.frombuffer(data, "<f4", size, offset).reshape(shape)
        offset += 4 * size
    return llama, dict(_named(llama, stacked))


Layout = list[tuple[str, tuple[int, ...]]]


def _version_1(llama: Llama) -> Layout:
    n, d, v = llama.num_layers, llama.width, llama.vocab_size
    layout: Layout = [("attention_norm", (n, d)), ("ffn_norm", (n, d)), ("norm", (d,))]
    layout += [("embedding", (v, d)), *_matrices(llama).items()]
    return layout if llama.is_tied else [*layout, ("head", (v, d))]


def _legacy(llama: Llama) -> Layout:
    n, d, v = llama.num_layers, llama.width, llama.vocab_size
    matrices = _matrices(llama)
    layout: Layout = [("embedding", (v, d)), ("attention_norm", (n, d))]
    layout += [(name, matrices[name]) for name in ("wq", "wk", "wv", "wo")]
    layout += [("ffn_norm", (n, d))]
    layout += [(name, matrices[name]) for name in ("w1", "w2", "w3")]
    layout += [("norm", (d,)), ("angles", (2, llama.length, llama.head_width // 2))]
    return layout if llama.is_tied else [*layout, ("head", (v, d))]


def _matrices(llama: Llama) -> dict[str, tuple[int, ...]]:
    n, d, f = llama.num_layers, llama.width, llama.ffn_width
    kv = llama.num_kv_heads * llama.head_width
    shapes = {"wq": (n, d, d), "wk": (n, kv, d), "wv": (n, kv, d), "wo": (n, d, d)}
    return shapes | {"w1": (n, f, d), "w2": (n, d, f), "w3": (n, f, d)}


def _named(llama: Llama, stacked: Tensors) -> Iterator[tuple[str, ndarray]]:
    yield "model.embed_tokens.weight", stacked["embedding"]
    yield "model.norm.weight", stacked["norm"]
    if not llama.is_tied:
        yield "lm_head.weight", stacked["head"]
    for i in range(llama.num_layers):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", stacked["attention_norm"][i]
        yield f"{layer}.post_attention_layernorm.weight", stacked["ffn_norm"][i]
        for name, theirs in MATRICES.items():
            matrix = stacked[name][i]
            if name in ("wq", "wk"):
                matrix = by_halves(matrix, llama.head_width)
            yield f"{layer}.{theirs}.weight", matrix


def by_halves(matrix: ndarray, head_width: int) -> ndarray:
    """Rows (0, 1, 2, 3, ...) of each head as (0, 2, ..., 1, 3, ...).

    Rotary embeddings then turn the pairs (i, i + K/2) in place of (2i, 2i + 1).

    >>> by_halves(np.arange(8)[:, None], 4).ravel().tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    pairs = matrix.reshape(-1, head_width // 2, 2, matrix.shape[-1])
    return np.swapaxes(pairs, 1, 2).reshape(matrix.shape)
