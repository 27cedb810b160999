"""LlamaForCausalLM of transformers: its configuration, names and shapes, and ours.

    theirs, (out, in)               here, (in, out)
    model.embed_tokens              sqrt(D) * embedding: the backbone scales it
    layers.i.self_attn.{q,k,v}_proj qkv, one matrix; k and v of a group are repeated
    layers.i.self_attn.o_proj       attention_out
    layers.i.mlp.{gate,up,down}_proj  gate, up, down
    lm_head                         head, or embedding where it is tied

Both rotate the pairs (i, i + K/2), so no rows are permuted.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lm_jax.config import ModelConfig
from lm_jax.convert import safetensors_files
from lm_jax.convert.safetensors_files import Tensors
from lm_jax.model.transformer import VOCABULARY_MULTIPLE
from lm_jax.types import BOS, EOS, Params
from lm_jax.validation import require

FIRST = EOS + 1  # the first id of a foreign vocabulary
OWN = "lm_jax"  # key in config.json of a run of this library
MAX_SIZE = 2**24  # of a dimension; larger ones are damage


class Llama(NamedTuple):
    """Sizes and constants of a Llama, and its ids that begin and end a text.

    Attributes:
      vocab_size, width, ffn_width, num_layers, num_heads: see `ModelConfig`.
      num_kv_heads: heads of keys and values; each serves num_heads / num_kv_heads.
      length: largest number of positions.
      norm_epsilon, rope_base: epsilon of RMSNorm, base of the rotary embeddings.
      is_tied: whether the head is the embedding.
      bos, eos: ids that begin and end a text; llama2.c has one for both.
      is_own: whether it is a run of this library, with its ids.
    """

    vocab_size: int
    width: int
    ffn_width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    length: int
    norm_epsilon: float
    rope_base: float
    is_tied: bool
    bos: int
    eos: int
    is_own: bool = False

    @property
    def head_width(self) -> int:
        """Features per head, K."""
        return self.width // self.num_heads


def require_usable(path: Path, llama: Llama) -> None:
    """Raises ValueError unless the sizes fit each other and this library."""
    sizes = {
        name: value for name, value in llama._asdict().items() if type(value) is int
    }
    for name, value in sizes.items():
        least = 0 if name in ("bos", "eos") else 1
        require(
            least <= value <= MAX_SIZE,
            f"{path} has {name}={value}, which is no Llama's: it is damaged, or of "
            "another format",
        )
    require(
        llama.width % (2 * llama.num_heads) == 0
        and llama.num_heads % llama.num_kv_heads == 0,
        f"{path} has width={llama.width}, num_heads={llama.num_heads} and "
        f"num_kv_heads={llama.num_kv_heads}, which do not divide: it is damaged, or of "
        "another format",
    )
    require(
        max(llama.bos, llama.eos) < llama.vocab_size,
        f"{path} begins and ends texts with the ids {llama.bos} and {llama.eos}, "
        f"beyond its vocabulary of {llama.vocab_size}: pass --eos_id=ID",
    )
    num_ids = llama.vocab_size if llama.is_own else FIRST + llama.vocab_size - 1
    require(
        num_ids <= 65_536,
        f"{path} has a vocabulary of {llama.vocab_size:,}, which takes {num_ids:,} ids "
        "here, and windows are stored as 16-bit integers: choose a model of at most "
        "65,532",
    )


# A directory of transformers.

# Options that change the arithmetic, and the value that this library computes.
ARITHMETIC = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_scaling": None,
    "pretraining_tp": 1,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}


def read(directory: Path, eos: int | None = None) -> tuple[Llama, Tensors, list[Path]]:
    """Configuration, tensors and files of a directory of transformers.

    Args:
      directory: directory with config.json and safetensors.
      eos: id that ends a text; default: that of config.json.

    Raises:
      ValueError: it is damaged, or of another architecture.
      OSError: a file cannot be read.
    """
    file = directory / "config.json"
    llama = from_config(file, safetensors_files.read_object(file), eos)
    require_usable(file, llama)
    tensors, parts = safetensors_files.read_directory(directory)
    return llama, tensors, [file, *parts]


def from_config(file: Path, values: Mapping[str, Any], eos: int | None) -> Llama:
    """The Llama that config.json describes.

    Raises:
      ValueError: it is of another architecture, or a field is missing or wrong.
    """
    architectures = values.get("architectures")
    require(
        architectures == ["LlamaForCausalLM"],
        f"{file} describes {architectures or values.get('model_type')}, and only "
        "LlamaForCausalLM is read: choose such a model",
    )
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, dict) else rope
    require(
        kind in (None, "default"),
        f"{file} scales rotary embeddings ({kind!r}), which this library does not: "
        "choose a model without rope_scaling",
    )
    for name, usual in ARITHMETIC.items():
        value = values.get(name, usual)
        require(
            value == usual or name == "rope_scaling",
            f"{file} has {name}={value!r}, and this library computes {name}={usual!r} "
            "alone: choose another model",
        )
    base = values.get("rope_theta") or rope.get("rope_theta") or 10_000.0
    heads = _number(file, values, "num_attention_heads")
    width = _number(file, values, "hidden_size")
    llama = Llama(
        vocab_size=_number(file, values, "vocab_size"),
        width=width,
        ffn_width=_number(file, values, "intermediate_size"),
        num_layers=_number(file, values, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=_number(file, values, "num_key_value_heads", heads),
        length=_number(file, values, "max_position_embeddings", 2048),
        norm_epsilon=_float(file, "rms_norm_eps", values.get("rms_norm_eps", 1e-6)),
        rope_base=_float(file, "rope_theta", base),
        is_tied=bool(values.get("tie_word_embeddings", False)),
        bos=_number(file, values, "bos_token_id", 1),
        eos=_number(file, values, "eos_token_id", 2) if eos is None else eos,
        is_own=OWN in values,
    )
    head_width = values.get("head_dim") or width // max(heads, 1)
    require(
        head_width * heads == width,
        f"{file} has head_dim={head_width}, and {heads} heads of it are not "
        f"hidden_size={width}: choose another model",
    )
    return llama


def _number(
    file: Path, values: Mapping[str, Any], name: str, default: int | None = None
) -> int:
    value = values.get(name)
    value = default if value is None else value
    hint = "pass --eos_id=ID" if name == "eos_token_id" else "copy it again"
    require(
        type(value) is int, f"{file} has {name}={value!r}, which is no number: {hint}"
    )
    return value  # pyright: ignore[reportReturnType]


def _float(file: Path, name: str, value: Any) -> float:
    require(
        isinstance(value, int | float) and 0.0 < value < math.inf,
        f"{file} has {name}={value!r}, which is no positive number: copy it again",
    )
    return float(value)


def config_of(cfg: ModelConfig) -> dict[str, Any]:
    """The fields of config.json that describe the backbone."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.width,
        "intermediate_size": cfg.ffn_width,
        "num_hidden_layers": cfg.num_layers,
        "num_attention_heads": cfg.num_heads,
        "num_key_value_heads": cfg.num_heads,
        "head_dim": cfg.width // cfg.num_heads,
        "max_position_embeddings": cfg.length,
        "rms_norm_eps": cfg.norm_epsilon,
        "rope_theta": cfg.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": cfg.rope_base},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    }


# Parameters.


def shapes(llama: Llama) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by name."""
    d, f, v = llama.width, llama.ffn_width, llama.vocab_size
    kv = llama.num_kv_heads * llama.head_width
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (v, d)}
    for i in range(llama.num_layers):
        layer = {
            "input_layernorm": (d,),
            "self_attn.q_proj": (d, d),
            "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d),
            "self_attn.o_proj": (d, d),
            "post_attention_layernorm": (d,),
            "mlp.gate_proj": (f, d),
            "mlp.up_proj": (f, d),
            "mlp.down_proj": (d, f),
        }
        found |= {f"model.layers.{i}.{name}.weight": s for name, s in layer.items()}
    found["model.norm.weight"] = (d,)
    return found if llama.is_tied else found | {"lm_head.weight": (v, d)}


def to_params(
    path: Path, llama: Llama, tensors: Tensors
) -> tuple[ModelConfig, dict[str, Any]]:
    """Our configuration and the parameters of the backbone.

    Raises:
      ValueError: a tensor is missing, too many, of another shape, or not finite.
    """
    _require_tensors(path, shapes(llama), tensors, is_tied=llama.is_tied)
    embedding = tensors["model.embed_tokens.weight"]
    head = embedding if llama.is_tied else tensors["lm_head.weight"]
    # In double precision: exact wherever sqrt(D) is a power of two.
    rows = (embedding.astype(np.float64) / math.sqrt(llama.width)).astype(np.float32)
    is_ours_tied = llama.is_own and np.array_equal(_scaled(head), embedding)
    ids = llama.vocab_size, llama.bos, llama.eos
    source = np.arange(llama.vocab_size) if llama.is_own else sources(*ids)
    cfg = ModelConfig(
        length=llama.length,
        vocab_size=len(source),
        width=llama.width,
        num_layers=llama.num_layers,
        num_heads=llama.num_heads,
        ffn_width=llama.ffn_width,
        tied_head=is_ours_tied,
        norm_epsilon=llama.norm_epsilon,
        rope_base=llama.rope_base,
    )
    backbone: dict[str, Any] = {
        "embedding": _table(head if is_ours_tied else rows, source),
        "final_norm": {"scale": tensors["model.norm.weight"]},
    }
    if not is_ours_tied:
        source = source.copy()
        if not llama.is_own:
            source[BOS] = -1  # an input alone
        backbone["head"] = _table(head, source)
    for i in range(llama.num_layers):
        backbone[f"blocks_{i}"] = _block(llama, tensors, f"model.layers.{i}")
    return cfg, {"backbone": backbone}


def sources(vocab_size: int, bos: int, eos: int) -> Int[ndarray, " V"]:
    """The foreign id behind each of our ids; -1 for PAD, UNK and MASK.

    The id that ends a text is EOS; the others follow in their order. BOS is an input
    alone, so the id that begins a text has an id of its own too, unless it also ends
    texts.

    >>> sources(5, bos=1, eos=2).tolist()
    [-1, 1, -1, -1, 2, 0, 1, 3, 4]
    >>> sources(5, bos=1, eos=1).tolist()
    [-1, 1, -1, -1, 1, 0, 2, 3, 4]
    """
    others = [i for i in range(vocab_size) if i != eos]
    return np.array([-1, bos, -1, -1, eos, *others])


def from_params(cfg: ModelConfig, params: Params) -> Tensors:
    """The tensors of transformers, from the parameters of an AR run."""
    backbone = params["backbone"]
    embedding = np.asarray(backbone["embedding"], np.float32)[: cfg.vocab_size]
    head = embedding
    if not cfg.tied_head:
        head = np.asarray(backbone["head"], np.float32)[: cfg.vocab_size]
    tensors = {
        "model.embed_tokens.weight": _scaled(embedding),
        "model.norm.weight": np.asarray(backbone["final_norm"]["scale"]),
        "lm_head.weight": head,
    }
    for i in range(cfg.num_layers):
        block, layer = backbone[f"blocks_{i}"], f"model.layers.{i}"
        q, k, v = np.split(np.asarray(block["qkv"]["kernel"]).T, 3)
        parts = {
            "input_layernorm": np.asarray(block["attention_norm"]["scale"]),
            "self_attn.q_proj": q,
            "self_attn.k_proj": k,
            "self_attn.v_proj": v,
            "self_attn.o_proj": np.asarray(block["attention_out"]["kernel"]).T,
            "post_attention_layernorm": np.asarray(block["ffn_norm"]["scale"]),
            "mlp.gate_proj": np.asarray(block["gate"]["kernel"]).T,
            "mlp.up_proj": np.asarray(block["up"]["kernel"]).T,
            "mlp.down_proj": np.asarray(block["down"]["kernel"]).T,
        }
        tensors |= {f"{layer}.{name}.weight": x for name, x in parts.items()}
    return tensors


def _scaled(embedding: Float[ndarray, "V D"]) -> Float[ndarray, "V D"]:
    """sqrt(D) * embedding in float32, as the backbone computes it."""
    return np.float32(math.sqrt(embedding.shape[1])) * embedding


def _table(rows: Float[ndarray, "V D"], source: Int[ndarray, " V2"]) -> ndarray:
    """The rows of our ids, zero where there is no source, padded as the backbone is."""
    size = -(-len(source) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    table = np.zeros((size, rows.shape[1]), np.float32)
    (there,) = np.nonzero(source >= 0)
    table[there] = rows[source[there]]
    return table


def _block(llama: Llama, tensors: Tensors, layer: str) -> dict[str, Any]:
    def matrix(name: str) -> ndarray:
        return tensors[f"{layer}.{name}.weight"]

    def repeated(name: str) -> ndarray:
        heads = matrix(name).reshape(llama.num_kv_heads, llama.head_width, -1)
        copies = llama.num_heads // llama.num_kv_heads
        return np.repeat(heads, copies, axis=0).reshape(llama.width, llama.width)

    q, k, v = matrix("self_attn.q_proj"), *map(repeated, _KEYS_AND_VALUES)
    kernels = {
        "qkv": np.concatenate([q, k, v]),
        "attention_out": matrix("self_attn.o_proj"),
        "gate": matrix("mlp.gate_proj"),
        "up": matrix("mlp.up_proj"),
        "down": matrix("mlp.down_proj"),
    }
    return {
        "attention_norm": {"scale": matrix("input_layernorm")},
        "ffn_norm": {"scale": matrix("post_attention_layernorm")},
        **{n: {"kernel": np.ascontiguousarray(x.T)} for n, x in kernels.items()},
    }


_KEYS_AND_VALUES = ("self_attn.k_proj", "self_attn.v_proj")


def _require_tensors(
    path: Path, wanted: Mapping[str, Any], found: Tensors, *, is_tied: bool
) -> None:
    for name, shape in wanted.items():
        there = found[name].shape if name in found else None
        require(
            there == shape,
            f"{path} has {name} of the shape {there}, and its configuration needs "
            f"{shape}: give the pair of one model"
            if there
            else f"{path} lacks {name}: it is cut off, or of another architecture",
        )
        require(
            bool(np.isfinite(found[name]).all()),
            f"{path} has numbers in {name} that are not finite: copy it again",
        )
    # Old files keep constants of RoPE, and tied ones may repeat the head.
    ours = [name for name in found if not name.endswith("rotary_emb.inv_freq")]
    surplus = set(ours) - set(wanted) - ({"lm_head.weight"} if is_tied else set())
    require(
        not surplus,
        f"{path} has {min(surplus, default='')}, which no Llama without biases has: "
        "choose another model",
    )


def with_length(llama: Llama, length: int) -> Llama:
    """The same with windows of `length` tokens, if that is not 0.

    Raises:
      ValueError: the model has fewer positions.
    """
    require(
        0 <= length <= llama.length and length != 1,
        f"--length={length} must lie between 2 and {llama.length}, the positions of "
        "the model; 0 takes all",
    )
    return llama._replace(length=length) if length else llama
