"""Tokenizers: SentencePiece and GPT-2 behind one interface."""

from lm_jax.data.tokenizers.base import Tokenizer
from lm_jax.data.tokenizers.load import load_tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]
