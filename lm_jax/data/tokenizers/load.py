"""Reads a tokenizer of either kind from a file."""

from pathlib import Path

from lm_jax.data.tokenizers.base import Tokenizer
from lm_jax.data.tokenizers.gpt2 import Gpt2
from lm_jax.data.tokenizers.sentencepiece import SentencePiece


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Reads a file that `Tokenizer.save` wrote.

    Raises:
      ValueError: the file is no tokenizer of this library.
      OSError: the file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        # No SentencePiece model begins with "{".
        return Gpt2(data) if data.startswith(b"{") else SentencePiece(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
