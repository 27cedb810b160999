"""GPT-2 and GPT-Neo: the names and shapes of transformers, and ours.

    GPT-2, (in, out)    GPT-Neo, (out, in)                  here, (in, out)
    wte, wpe            wte, wpe                            embedding, positions
    h.i.ln_{1,2}        h.i.ln_{1,2}                        attention_norm, ffn_norm
    h.i.attn.c_attn     h.i.attn.attention.{q,k,v}_proj     qkv
    h.i.attn.c_proj     h.i.attn.attention.out_proj         attention_out
    h.i.mlp.c_fc        h.i.mlp.c_fc                        up
    h.i.mlp.c_proj      h.i.mlp.c_proj                      down
    ln_f                ln_f                                final_norm

as in openai-community/gpt2 and roneneldan/TinyStories-33M ("transformer." may stand
before a name). The head is the embedding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from lm_jax.config import ModelConfig
from lm_jax.convert.tensors import checked, checked_length, rows, size
from lm_jax.model.gpt import LOCAL_SPAN
from lm_jax.validation import require

PREFIX = "transformer."
HEAD = "lm_head.weight"  # a copy of the embedding in some files
# Causal masks, which old files hold.
MASKS = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")

# Names of the sizes in config.json.
SIZES = {
    "gpt2": {
        "width": "n_embd",
        "length": "n_positions",
        "num_layers": "n_layer",
        "num_heads": "n_head",
        "ffn_width": "n_inner",
    },
    "gpt_neo": {
        "width": "hidden_size",
        "length": "max_position_embeddings",
        "num_layers": "num_layers",
        "num_heads": "num_heads",
        "ffn_width": "intermediate_size",
    },
}
# Options that change the arithmetic, and the value that this library computes.
ARITHMETIC = {
    "activation_function": "gelu_new",
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "window_size": LOCAL_SPAN,
    "quantization_config": None,
}


def from_tensors(
    tensors: Mapping[str, ndarray], settings: Mapping[str, Any], length: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration and the parameters of a GPT-2 or GPT-Neo, for the family ar.

    The last id of its vocabulary, `<|endoftext|>`, is EOS here; as it begins texts too,
    it is also the embedding of BOS. Its other ids follow EOS.

    Args:
      tensors: tensors by name.
      settings: config.json beside the checkpoint.
      length: tokens of a window; 0 is the number of positions.

    Returns:
      Sections of a `Config`, as `Config.from_dict` reads them, and the parameters.

    Raises:
      ValueError: it is neither, or a tensor is missing, unknown, or of another shape or
        type.
    """
    kind = settings.get("model_type")
    require(
        kind in SIZES,
        f"config.json has model_type={kind!r}: choose a model of the type 'gpt2' or "
        "'gpt_neo'",
    )
    model = _model(str(kind), settings)
    cfg = ModelConfig(**model)
    kept = {name: x for name, x in tensors.items() if not name.endswith(MASKS)}
    found = checked(kept, PREFIX, _shapes(cfg), optional=HEAD)
    require(
        np.array_equal(found.get(HEAD, found["wte.weight"]), found["wte.weight"]),
        f"the checkpoint has {HEAD} that is not its wte.weight, and this library's GPT "
        "has one table for both: choose another checkpoint",
    )
    model["length"] = checked_length(length, cfg.length)
    backbone = _backbone(cfg, found)
    backbone["positions"] = backbone["positions"][: model["length"]]
    return {"model": model}, {"backbone": backbone}


def _model(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ModelConfig."""
    for name, usual in ARITHMETIC.items():
        require(
            settings.get(name, usual) == usual,
            f"config.json has {name}={settings.get(name)!r}, and this library computes "
            f"{name}={usual!r} alone: choose another checkpoint",
        )
    names = dict(SIZES[kind])
    if settings.get(names["ffn_width"]) is None:  # four times the width
        del names["ffn_width"]
    sizes = {ours: size(settings, theirs) for ours, theirs in names.items()}
    num_ids = size(settings, "vocab_size")
    for name in ("bos_token_id", "eos_token_id"):
        value = settings.get(name, num_ids - 1)
        require(
            value == num_ids - 1,
            f"config.json has {name}={value!r}, and the last of {num_ids} ids is to be "
            "<|endoftext|>: choose a model with GPT-2's vocabulary",
        )
    if kind == "gpt_neo":
        _require_alternating(settings, sizes["num_layers"])
    epsilon = settings.get("layer_norm_epsilon", 1e-5)
    require(
        isinstance(epsilon, float),
        f"config.json has layer_norm_epsilon={epsilon!r}, which is no number: give the "
        "config.json of this checkpoint",
    )
    return {
        "architecture": kind,
        "vocab_size": num_ids + 4,  # PAD, BOS, UNK and MASK
        "ffn_width": 4 * sizes["width"],
        **sizes,
        "tied_head": True,
        "norm_epsilon": epsilon,
    }


def _require_alternating(settings: Mapping[str, Any], num_layers: int) -> None:
    layers = settings.get("attention_layers")
    if layers is None:
        types = settings.get("attention_types", [[["global", "local"], 12]])
        try:
            layers = [kind for kinds, n in types for kind in list(kinds) * n]
        except (TypeError, ValueError):
            layers = types
    wanted = [("global", "local")[i % 2] for i in range(num_layers)]
    require(
        layers == wanted,
        f"config.json has the attention layers {layers!r}, and this library computes "
        "global and local ones in turn: choose another checkpoint",
    )


def _shapes(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by name."""
    d, f, v = cfg.width, cfg.ffn_width, cfg.vocab_size - 4
    is_gpt2 = cfg.architecture == "gpt2"
    matrices = {"mlp.c_fc": (d, f), "mlp.c_proj": (f, d)}
    if is_gpt2:
        matrices |= {"attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d)}
    else:
        matrices |= {f"attn.attention.{x}_proj": (d, d) for x in ("q", "k", "v", "out")}
    found: dict[str, tuple[int, ...]] = {
        "wte.weight": (v, d),
        "wpe.weight": (cfg.length, d),
        "ln_f.weight": (d,),
        "ln_f.bias": (d,),
        HEAD: (v, d),
    }
    for i in range(cfg.num_layers):
        for name in ("ln_1", "ln_2"):
            found |= {f"h.{i}.{name}.{x}": (d,) for x in ("weight", "bias")}
        for name, (into, out) in matrices.items():
            shape = (into, out) if is_gpt2 else (out, into)
            found[f"h.{i}.{name}.weight"] = shape
            if not name.endswith(("q_proj", "k_proj", "v_proj")):
                found[f"h.{i}.{name}.bias"] = (out,)
    return found


def _backbone(cfg: ModelConfig, tensors: Mapping[str, ndarray]) -> dict[str, Any]:
    is_gpt2 = cfg.architecture == "gpt2"

    def kernel(name: str) -> ndarray:
        weight = tensors[f"{name}.weight"]
        return weight if is_gpt2 else weight.T

    def linear(name: str) -> dict[str, ndarray]:
        return {"kernel": kernel(name), "bias": tensors[f"{name}.bias"]}

    def norm(name: str) -> dict[str, ndarray]:
        return {"scale": tensors[f"{name}.weight"], "bias": tensors[f"{name}.bias"]}

    end = cfg.vocab_size - 5  # the last of their ids
    backbone = {
        "embedding": rows(
            tensors["wte.weight"], [None, end, None, None, end, *range(end)]
        ),
        "positions": tensors["wpe.weight"],
        "final_norm": norm("ln_f"),
    }
    for i in range(cfg.num_layers):
        layer, attention = f"h.{i}", f"h.{i}.attn.attention"
        if is_gpt2:
            qkv, out = linear(f"{layer}.attn.c_attn"), f"{layer}.attn.c_proj"
        else:
            parts = [kernel(f"{attention}.{x}_proj") for x in "qkv"]
            qkv, out = {"kernel": np.concatenate(parts, 1)}, f"{attention}.out_proj"
        backbone[f"blocks_{i}"] = {
            "attention_norm": norm(f"{layer}.ln_1"),
            "qkv": qkv,
            "attention_out": linear(out),
            "ffn_norm": norm(f"{layer}.ln_2"),
            "up": linear(f"{layer}.mlp.c_fc"),
            "down": linear(f"{layer}.mlp.c_proj"),
        }
    return backbone
