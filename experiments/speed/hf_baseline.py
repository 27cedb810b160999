"""Baseline for cached AR: a model of the same shape in Hugging Face transformers."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from lm_jax.config import ModelConfig
from lm_jax.types import BOS, EOS, PAD


def is_installed() -> bool:
    """Whether the extra `hf` is installed."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def make_model(cfg: ModelConfig) -> Any:
    """An untrained Llama: RoPE, pre-RMSNorm, SwiGLU and no biases, as our backbone."""
    transformers = importlib.import_module("transformers")
    config = transformers.LlamaConfig(
        vocab_size=cfg.vocab_size,
        hidden_size=cfg.width,
        intermediate_size=cfg.ffn_width,
        num_hidden_layers=cfg.num_layers,
        num_attention_heads=cfg.num_heads,
        max_position_embeddings=cfg.length + 1,
        tie_word_embeddings=cfg.tied_head,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return transformers.LlamaForCausalLM(config).eval()


def generate(cfg: ModelConfig, batch: int, device: str = "cpu") -> Callable[[], Any]:
    """() -> whole windows by `generate`: cached, in cfg.dtype, at temperature 1.

    Generation starts from BOS and does not stop at EOS.
    """
    torch = importlib.import_module("torch")
    model = make_model(cfg).to(device, getattr(torch, cfg.dtype))
    start = torch.full((batch, 1), BOS, device=device)
    settings = {
        "do_sample": True,
        "top_k": 0,
        "use_cache": True,
        "min_new_tokens": cfg.length,
        "max_new_tokens": cfg.length,
        "pad_token_id": PAD,
    }

    def once() -> Any:
        with torch.inference_mode():
            mask = torch.ones_like(start)
            return model.generate(start, attention_mask=mask, **settings)

    return once
