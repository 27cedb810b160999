"""Baseline for training speed: backbone and both training steps in plain PyTorch.

Parameters are a tree of tensors with our names, so that weights can be copied. The rest
is usual PyTorch: eager or `torch.compile`, float32 or bfloat16 autocast,
`scaled_dot_product_attention` and, on a GPU, fused AdamW. Needs the extra `bench`.
"""

import importlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lm_jax.config import Config, ModelConfig, require
from lm_jax.model.transformer import VOCABULARY_MULTIPLE
from lm_jax.training.optimizer import make_schedule
from lm_jax.types import BOS, MASK, NUM_NON_TEXT

torch: Any = importlib.import_module("torch")  # Any: the extra may not be installed
functional: Any = torch.nn.functional

MODES = ("eager", "compile")
# p of alpha(t) = 1 - t^p, with weight p / t; other schedules have the same cost.
EXPONENTS = {"linear": 1, "log_linear": 1, "polynomial": 2}


def copy_params(params: Any, device: str = "cpu") -> Any:
    """Our parameters as tensors with gradients, under the same names."""

    def copy(leaf: Any) -> Any:
        tensor = torch.tensor(np.asarray(leaf), device=device)
        return tensor.requires_grad_()

    return jax.tree.map(copy, params)


def token_nll(
    config: Config, params: Any, inputs: Any, x: Any, *, t: Any = None
) -> Any:
    """-log p(x_l | inputs) in nats, (B * L,): AR without `t`, MDLM with it."""
    cfg, own = config.model, config.section("mdlm")
    tree, causal = params["backbone"], t is None
    h = math.sqrt(cfg.width) * functional.embedding(inputs, tree["embedding"])
    if t is not None:
        h = h + _time(cfg.width, own.time_scale, params["time_embedding"], t)[:, None]
        if own.bos_at_start:
            start = functional.pad(
                tree["embedding"][BOS][None], (0, 0, 0, x.shape[1] - 1)
            )
            h = h + math.sqrt(cfg.width) * start
    cos, sin = _angles(cfg, h.device)
    for layer in range(cfg.num_layers):
        block = tree[f"blocks_{layer}"]
        normed = _norm(cfg, h, block["attention_norm"]["scale"])
        qkv = normed @ block["qkv"]["kernel"]
        qkv = qkv.view(*x.shape, 3, cfg.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k = _rope(qkv[0], cos, sin), _rope(qkv[1], cos, sin)
        mixed = functional.scaled_dot_product_attention(
            q.to(qkv.dtype), k.to(qkv.dtype), qkv[2], is_causal=causal
        )
        mixed = mixed.transpose(1, 2).reshape(h.shape)
        h = h + mixed @ block["attention_out"]["kernel"]
        normed = _norm(cfg, h, block["ffn_norm"]["scale"])
        gate = functional.silu(normed @ block["gate"]["kernel"])
        h = h + (gate * (normed @ block["up"]["kernel"])) @ block["down"]["kernel"]
    h = _norm(cfg, h, tree["final_norm"]["scale"])
    table = tree["embedding"] if cfg.tied_head else tree["head"]
    logits = functional.linear(h, table).flatten(0, 1) + _logit_mask(cfg, h.device)
    return functional.cross_entropy(logits, x.flatten(), reduction="none")


def training_step(
    cfg: Config,
    family: str,
    params: Any,
    x: np.ndarray,
    *,
    mode: str,
    device: str,
    steps: int = 1,
) -> Callable[[], float]:
    """() -> the loss after `steps` whole training steps on the batch `x`.

    Args:
      cfg: configuration; model.dtype "bfloat16" is autocast of float32 parameters.
      family: "ar" or "mdlm".
      params: JAX parameters, which are copied.
      x: tokens (B, L) without PAD.
      mode: "eager", or "compile" for `torch.compile` of forward and backward pass.
      device: "cpu" or "cuda".
      steps: number of steps before it waits for the device.
    """
    require(mode in MODES, f"unknown mode {mode!r}: choose one of {', '.join(MODES)}")
    _require_known(cfg)
    torch.set_float32_matmul_precision("highest" if device == "cpu" else "high")
    tensors, batch = copy_params(params, device), torch.tensor(x, device=device).long()
    leaves = jax.tree.leaves(tensors)
    optimizer = torch.optim.AdamW(
        leaves,
        lr=cfg.optimizer.learning_rate,
        betas=(cfg.optimizer.b1, cfg.optimizer.b2),
        weight_decay=cfg.optimizer.weight_decay,
        fused=True,
    )
    schedule = make_schedule(cfg.optimizer, cfg.train.num_steps)
    rates = np.asarray(jax.vmap(schedule)(np.arange(1_000) % cfg.train.num_steps))
    half = cfg.model.dtype == "bfloat16"
    loss_fn = {"ar": _ar_loss, "mdlm": _mdlm_loss}[family]
    if mode == "compile":
        loss_fn = torch.compile(loss_fn)
    counter = itertools.count()

    def once() -> Any:
        for group in optimizer.param_groups:
            group["lr"] = float(rates[next(counter) % len(rates)])
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = loss_fn(cfg, tensors, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves, cfg.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def turn() -> float:
        return [once() for _ in range(steps)][-1].item()  # waits for the device

    return turn


def matmul(size: int, dtype: str, device: str) -> Callable[[], None]:
    """() -> None: one square matrix product, the peak of PyTorch."""
    square = torch.randn(size, size, dtype=getattr(torch, dtype), device=device)

    def once() -> None:
        torch.matmul(square, square)
        if device == "cuda":
            torch.cuda.synchronize()

    return once


def _ar_loss(cfg: Config, params: Any, x: Any) -> Any:
    inputs = functional.pad(x[:, :-1], (1, 0), value=BOS)
    return token_nll(cfg, params, inputs, x).mean()


def _mdlm_loss(cfg: Config, params: Any, x: Any) -> Any:
    rows, exponent = x.shape[0], EXPONENTS[cfg.section("mdlm").schedule]
    t = (
        torch.arange(rows, device=x.device) + 1 - torch.rand(1, device=x.device)
    ) / rows
    is_masked = torch.rand(x.shape, device=x.device) < t[:, None] ** exponent
    z_t = torch.where(is_masked, MASK, x)
    nats = token_nll(cfg, params, z_t, x, t=t).view(x.shape)
    return (nats * is_masked * (exponent / t)[:, None]).mean()


def _require_known(cfg: Config) -> None:
    own, dropout = cfg.section("mdlm"), cfg.model.dropout
    require(
        own.time_embedding == "additive" and not dropout,
        f"the PyTorch baseline has time_embedding='additive' and dropout=0, not "
        f"{own.time_embedding!r} and {dropout}",
    )
    require(
        own.schedule in EXPONENTS,
        f"the PyTorch baseline has no schedule {own.schedule!r}: choose one of "
        + ", ".join(EXPONENTS),
    )


def _norm(cfg: ModelConfig, h: Any, scale: Any) -> Any:
    return functional.rms_norm(h.float(), h.shape[-1:], scale, cfg.norm_epsilon)


def _angles(cfg: ModelConfig, device: Any) -> tuple[Any, Any]:
    half = cfg.width // cfg.num_heads // 2
    frequency = cfg.rope_base ** (-torch.arange(half, device=device) / half)
    angle = torch.arange(cfg.length, device=device)[:, None] * frequency
    return torch.cos(angle), torch.sin(angle)


def _rope(x: Any, cos: Any, sin: Any) -> Any:
    first, second = x.float().chunk(2, dim=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat(rotated, dim=-1)


def _time(width: int, scale: float, tree: Any, t: Any) -> Any:
    half = width // 2
    exponent = -math.log(10_000.0) * torch.arange(half, device=t.device) / half
    angle = scale * t[:, None] * torch.exp(exponent)
    features = torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)
    dense = tree["Dense_0"]
    return functional.silu(features @ dense["kernel"] + dense["bias"])


def _logit_mask(cfg: ModelConfig, device: Any) -> Any:
    """0 for text tokens, -inf for PAD, BOS, UNK, MASK and padding of the vocabulary."""
    size = -(-cfg.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    ids = torch.arange(size, device=device)
    is_text = (ids >= NUM_NON_TEXT) & (ids < cfg.vocab_size)
    return torch.zeros(size, device=device).masked_fill(~is_text, -torch.inf)
