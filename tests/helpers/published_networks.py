"""Published networks of random weights, and their arithmetic in NumPy, float64.

Names and layouts are those of the published files; nothing here uses lm_jax.
"""

import math

import numpy as np

SPAN = 256  # positions that a local layer of GPT-Neo sees

MDLM = {
    "model_type": "mdlm",
    "hidden_dim": 16,
    "model_length": 12,
    "n_blocks": 2,
    "n_heads": 2,
    "cond_dim": 128,
    "vocab_size": 12,
    "time_conditioning": False,
}
SEDD = {
    "tokens": 11,
    "graph": {"type": "absorb"},
    "noise": {"type": "loglinear"},
    "model": {
        "hidden_size": 16,
        "length": 12,
        "n_blocks": 2,
        "n_heads": 2,
        "cond_dim": 128,
        "scale_by_sigma": True,
    },
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 16,
    "n_positions": 20,
    "n_layer": 2,
    "n_head": 2,
    "vocab_size": 11,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": 10,
    "eos_token_id": 10,
}
GPT_NEO = {
    "model_type": "gpt_neo",
    "hidden_size": 16,
    "max_position_embeddings": 300,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": None,
    "vocab_size": 11,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "attention_types": [[["global", "local"], 1]],
    "window_size": SPAN,
    "bos_token_id": 10,
    "eos_token_id": 10,
}


def _random(shapes, seed):
    """Norms near one, everything else of a size that makes every term matter."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        is_norm = "norm" in name or "ln_" in name
        mean = 1.0 if is_norm and name.endswith("weight") else 0.0
        tensors[name] = (mean + 0.3 * rng.normal(size=shape)).astype(np.float32)
    return tensors


def dit_tensors(seed=0, prefix="backbone."):
    d, c, v = 16, 128, 12
    shapes = {
        "vocab_embed.embedding": (v, d),
        "sigma_map.mlp.0.weight": (c, 256),
        "sigma_map.mlp.0.bias": (c,),
        "sigma_map.mlp.2.weight": (c, c),
        "sigma_map.mlp.2.bias": (c,),
        "output_layer.norm_final.weight": (d,),
        "output_layer.linear.weight": (v, d),
        "output_layer.linear.bias": (v,),
        "output_layer.adaLN_modulation.weight": (2 * d, c),
        "output_layer.adaLN_modulation.bias": (2 * d,),
    }
    for i in range(2):
        block = {
            "norm1.weight": (d,),
            "attn_qkv.weight": (3 * d, d),
            "attn_out.weight": (d, d),
            "norm2.weight": (d,),
            "mlp.0.weight": (4 * d, d),
            "mlp.0.bias": (4 * d,),
            "mlp.2.weight": (d, 4 * d),
            "mlp.2.bias": (d,),
            "adaLN_modulation.weight": (6 * d, c),
            "adaLN_modulation.bias": (6 * d,),
        }
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    tensors = _random(shapes, seed)
    for name in tensors:
        if "sigma_map" in name or "adaLN" in name:
            tensors[name] *= np.float32(0.2)
    half = d // 2 // 2
    tensors["rotary_emb.inv_freq"] = (10_000.0 ** (-np.arange(half) / half)).astype(
        np.float32
    )
    return {prefix + name: array for name, array in tensors.items()}


def dit_logits(tensors, ids, sigma):
    """The logits of one row of published ids at one sigma: (L, V)."""
    t = {name.removeprefix("backbone."): x.astype(float) for name, x in tensors.items()}

    def linear(x, name):
        return x @ t[f"{name}.weight"].T + t.get(f"{name}.bias", 0.0)

    def norm(x, name):
        return _layer_norm(x) * t[f"{name}.weight"]

    angle = sigma * np.exp(-math.log(10_000) * np.arange(128) / 128)
    features = np.concatenate([np.cos(angle), np.sin(angle)])
    c = _silu(linear(_silu(linear(features, "sigma_map.mlp.0")), "sigma_map.mlp.2"))
    x = t["vocab_embed.embedding"][ids]
    for i in range(2):
        block = f"blocks.{i}"
        parts = np.split(linear(c, f"{block}.adaLN_modulation"), 6)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts
        inner = norm(x, f"{block}.norm1") * (1 + scale) + shift
        qkv = linear(inner, f"{block}.attn_qkv").reshape(len(ids), 3, 2, 8)
        q, k, v = (_rotate(qkv[:, 0]), _rotate(qkv[:, 1]), qkv[:, 2])
        mixed = _attend(q / math.sqrt(8), k, v, np.ones((len(ids), len(ids)), bool))
        x = x + gate * linear(mixed, f"{block}.attn_out")
        inner = norm(x, f"{block}.norm2") * (1 + mlp_scale) + mlp_shift
        inner = _gelu(linear(inner, f"{block}.mlp.0"))
        x = x + mlp_gate * linear(inner, f"{block}.mlp.2")
    shift, scale = np.split(linear(c, "output_layer.adaLN_modulation"), 2)
    x = norm(x, "output_layer.norm_final") * (1 + scale) + shift
    return linear(x, "output_layer.linear")


def gpt2_tensors(seed=0):
    d = 16
    shapes = {"wte.weight": (11, d), "wpe.weight": (20, d)}
    shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    for i in range(2):
        block = {
            "ln_1": (d,),
            "attn.c_attn": (d, 3 * d),
            "attn.c_proj": (d, d),
            "ln_2": (d,),
            "mlp.c_fc": (d, 4 * d),
            "mlp.c_proj": (4 * d, d),
        }
        for name, shape in block.items():
            shapes[f"h.{i}.{name}.weight"] = shape
            shapes[f"h.{i}.{name}.bias"] = shape[-1:]
    return _random(shapes, seed)


def gpt_neo_tensors(seed=0):
    d = 16
    shapes = {"wte.weight": (11, d), "wpe.weight": (300, d)}
    shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    for i in range(2):
        block = {
            "ln_1": (d,),
            "attn.attention.out_proj": (d, d),
            "ln_2": (d,),
            "mlp.c_fc": (4 * d, d),
            "mlp.c_proj": (d, 4 * d),
        }
        for name, shape in block.items():
            shapes[f"h.{i}.{name}.weight"] = shape
            shapes[f"h.{i}.{name}.bias"] = shape[:1]
        for name in ("q_proj", "k_proj", "v_proj"):
            shapes[f"h.{i}.attn.attention.{name}.weight"] = (d, d)
    tensors = _random(shapes, seed)
    tensors["wpe.weight"] *= np.float32(2.0)  # far positions differ, so spans matter
    return {f"transformer.{name}": array for name, array in tensors.items()}


def gpt_logits(tensors, ids):
    """The logits of one row of published ids: (L, V)."""
    t = {
        name.removeprefix("transformer."): x.astype(float)
        for name, x in tensors.items()
    }
    is_neo = "h.0.attn.attention.q_proj.weight" in t

    def linear(x, name):
        weight = t[f"{name}.weight"]
        return x @ (weight.T if is_neo else weight) + t.get(f"{name}.bias", 0.0)

    def norm(x, name):
        return _layer_norm(x) * t[f"{name}.weight"] + t[f"{name}.bias"]

    num = len(ids)
    distance = np.arange(num)[:, None] - np.arange(num)[None]
    x = t["wte.weight"][ids] + t["wpe.weight"][:num]
    for i in range(2):
        inner, is_seen = norm(x, f"h.{i}.ln_1"), distance >= 0
        if is_neo:
            attention = f"h.{i}.attn.attention"
            q, k, v = (linear(inner, f"{attention}.{n}_proj") for n in "qkv")
            scale, out = 1.0, f"{attention}.out_proj"
            if i == 1:
                is_seen &= distance < SPAN
        else:
            q, k, v = np.split(linear(inner, f"h.{i}.attn.c_attn"), 3, axis=-1)
            scale, out = 1 / math.sqrt(8), f"h.{i}.attn.c_proj"
        q, k, v = (part.reshape(num, 2, 8) for part in (q, k, v))
        x = x + linear(_attend(scale * q, k, v, is_seen), out)
        inner = _gelu(linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"))
        x = x + linear(inner, f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ t["wte.weight"].T


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _attend(q, k, v, is_seen):
    scores = np.where(is_seen, np.einsum("lhk,mhk->hlm", q, k), -np.inf)
    mixed = np.einsum("hlm,mhk->lhk", np.exp(log_softmax(scores)), v)
    return mixed.reshape(len(q), -1)


def _rotate(x):
    """Pairs (i, i + K/2) of (L, H, K), by the angle l * 10000^(-2i/K)."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None] * 10_000.0 ** (-np.arange(half) / half)
    turn = np.exp(1j * angle)[:, None]
    turned = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([turned.real, turned.imag], axis=-1)


def _layer_norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _silu(x):
    return x / (1 + np.exp(-x))
