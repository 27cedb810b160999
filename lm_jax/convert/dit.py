"""The DiT of MDLM and SEDD: its published names and shapes, and ours.

    theirs, (out, in)                             here, (in, out)
    vocab_embed.embedding                         embedding
    sigma_map.mlp.{0,2}                           sigma_in, sigma_out
    blocks.i.norm{1,2}                            attention_norm, ffn_norm
    blocks.i.attn_qkv, .attn_out                  qkv, attention_out
    blocks.i.mlp.{0,2}                            up, down
    blocks.i.adaLN_modulation                     modulation
    output_layer.norm_final, .adaLN_modulation    final_norm, final_modulation
    output_layer.linear                           head

as in kuleshov-group/mdlm-owt (names with "backbone." before them) and louaaron/sedd-*.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from lm_jax.config import ModelConfig
from lm_jax.convert.tensors import checked, checked_length, rows, size
from lm_jax.model.dit import COND_WIDTH, NUM_SINUSOIDS
from lm_jax.validation import require

PREFIX = "backbone."
INV_FREQ = "rotary_emb.inv_freq"
OTHER_PROCESS = (
    "this library reads DiTs of masked diffusion alone; choose one whose config.json "
    "has model_type='mdlm', or graph.type='absorb' and noise.type='loglinear'"
)


def from_tensors(
    tensors: Mapping[str, ndarray], settings: Mapping[str, Any], length: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration and the parameters of a published DiT, for the family mdlm.

    The last two ids of its vocabulary are `<|endoftext|>` and the mask; they are EOS
    and MASK here, and its other ids follow EOS. PAD, which stands after the end of a
    document, looks like EOS to the network. BOS and UNK are no inputs of it.

    SEDD's output is log s_v = logit_v - log(e^sigma - 1) - log(V - 1) where
    scale_by_sigma is set, and 0 at the token that is there. Both are left out: the
    first subtracts one number from all logits, which cancels in softmax, and the second
    is about MASK, which is no text. The true s_v is proportional to the probability of
    v, so softmax(log s) is scored and sampled; Lou et al. 2023, arXiv:2310.16834.

    Args:
      tensors: tensors by name.
      settings: config.json beside the checkpoint.
      length: tokens of a window; 0 is the length in training.

    Returns:
      Sections of a `Config`, as `Config.from_dict` reads them, and the parameters.

    Raises:
      ValueError: it is no DiT of masked diffusion, or a tensor is missing, unknown, or
        of another shape or type.
    """
    model, is_conditioned = _model(settings)
    cfg = ModelConfig(**model)
    found = checked(tensors, PREFIX, _shapes(cfg), optional=INV_FREQ)
    half = cfg.width // cfg.num_heads // 2
    frequencies = 10_000.0 ** (-np.arange(half) / half)
    require(
        np.allclose(found.get(INV_FREQ, frequencies), frequencies, rtol=1e-2),
        f"the checkpoint has {INV_FREQ} of another base than 10000, and this library's "
        "DiT has that base alone: choose another checkpoint",
    )
    changes = {
        "model": model | {"length": checked_length(length, cfg.length)},
        "mdlm": {
            "schedule": "log_linear",
            "time_embedding": "sigma" if is_conditioned else "none",
            "bos_at_start": False,
        },
    }
    return changes, {"backbone": _backbone(cfg, found)}


def _model(settings: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Fields of ModelConfig, and whether the network is conditioned on sigma."""
    if "graph" in settings:
        sizes = _sizes(_sedd(settings), "hidden_size", "length")
        num_ids = size(settings, "tokens") + 1
        is_conditioned = True
    else:
        _require_mdlm(settings)
        sizes = _sizes(settings, "hidden_dim", "model_length")
        num_ids = size(settings, "vocab_size")
        is_conditioned = bool(settings.get("time_conditioning", False))
    return {
        "architecture": "dit",
        "vocab_size": num_ids + 3,  # PAD, BOS and UNK
        **sizes,
        "ffn_width": 4 * sizes["width"],
        "tied_head": False,
        "norm_epsilon": 1e-5,
    }, is_conditioned


def _sizes(settings: Mapping[str, Any], width: str, length: str) -> dict[str, int]:
    """Sizes as ModelConfig has them; `width` and `length` are their published names."""
    return {
        "width": size(settings, width),
        "length": size(settings, length),
        "num_layers": size(settings, "n_blocks"),
        "num_heads": size(settings, "n_heads"),
    }


def _sedd(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section `model` of the configuration of a SEDD, if it masks tokens."""
    for name, usual in (("graph", "absorb"), ("noise", "loglinear")):
        section = settings.get(name)
        kind = section.get("type") if isinstance(section, Mapping) else section
        require(
            kind == usual,
            f"config.json has {name}.type={kind!r}, not {usual!r}: {OTHER_PROCESS}",
        )
    model = settings.get("model")
    require(
        isinstance(model, Mapping),
        "config.json has no section `model`: give the config.json of this checkpoint",
    )
    return model  # pyright: ignore[reportReturnType]


def _require_mdlm(settings: Mapping[str, Any]) -> None:
    kind = settings.get("model_type")
    require(
        kind in ("mdlm", "bd3lm"),
        f"config.json has model_type={kind!r}: {OTHER_PROCESS}",
    )
    block = settings.get("block_size")
    require(
        kind == "mdlm" or block == settings.get("model_length"),
        f"config.json has block_size={block!r}: this network predicts a block from the "
        "blocks before it, and this library asks for the whole window; choose one "
        "whose block_size is its model_length",
    )
    for name, usual in (("causal", False), ("adaln", True)):
        require(
            settings.get(name, usual) is usual,
            f"config.json has {name}={settings.get(name)!r}, and this library's DiT "
            f"has {name}={usual} alone: choose another checkpoint",
        )


def _shapes(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by name."""
    d, f, c = cfg.width, cfg.ffn_width, COND_WIDTH
    v = cfg.vocab_size - 3
    found: dict[str, tuple[int, ...]] = {
        "vocab_embed.embedding": (v, d),
        **_linear_shapes("sigma_map.mlp.0", c, NUM_SINUSOIDS),
        **_linear_shapes("sigma_map.mlp.2", c, c),
        INV_FREQ: (d // cfg.num_heads // 2,),
        "output_layer.norm_final.weight": (d,),
        **_linear_shapes("output_layer.linear", v, d),
        **_linear_shapes("output_layer.adaLN_modulation", 2 * d, c),
    }
    for i in range(cfg.num_layers):
        layer = f"blocks.{i}"
        found |= {
            f"{layer}.norm1.weight": (d,),
            f"{layer}.attn_qkv.weight": (3 * d, d),
            f"{layer}.attn_out.weight": (d, d),
            f"{layer}.norm2.weight": (d,),
            **_linear_shapes(f"{layer}.mlp.0", f, d),
            **_linear_shapes(f"{layer}.mlp.2", d, f),
            **_linear_shapes(f"{layer}.adaLN_modulation", 6 * d, c),
        }
    return found


def _linear_shapes(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _backbone(cfg: ModelConfig, tensors: Mapping[str, ndarray]) -> dict[str, Any]:
    def linear(name: str, has_bias: bool = True) -> dict[str, ndarray]:
        kernel = {"kernel": tensors[f"{name}.weight"].T}
        return kernel | ({"bias": tensors[f"{name}.bias"]} if has_bias else {})

    def norm(name: str) -> dict[str, ndarray]:
        return {"scale": tensors[f"{name}.weight"]}

    mask = cfg.vocab_size - 4  # the last of their ids
    end = mask - 1
    texts = list(range(end))
    head = linear("output_layer.linear")
    backbone = {
        "embedding": rows(
            tensors["vocab_embed.embedding"], [end, None, None, mask, end, *texts]
        ),
        "sigma_in": linear("sigma_map.mlp.0"),
        "sigma_out": linear("sigma_map.mlp.2"),
        "final_norm": norm("output_layer.norm_final"),
        "final_modulation": linear("output_layer.adaLN_modulation"),
        "head": {
            "kernel": rows(head["kernel"].T, [None] * 4 + [end, *texts]).T,
            "bias": rows(head["bias"], [None] * 4 + [end, *texts]),
        },
    }
    for i in range(cfg.num_layers):
        layer = f"blocks.{i}"
        backbone[f"blocks_{i}"] = {
            "attention_norm": norm(f"{layer}.norm1"),
            "qkv": linear(f"{layer}.attn_qkv", has_bias=False),
            "attention_out": linear(f"{layer}.attn_out", has_bias=False),
            "ffn_norm": norm(f"{layer}.norm2"),
            "up": linear(f"{layer}.mlp.0"),
            "down": linear(f"{layer}.mlp.2"),
            "modulation": linear(f"{layer}.adaLN_modulation"),
        }
    return backbone
