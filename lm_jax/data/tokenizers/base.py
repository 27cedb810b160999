"""The interface of every tokenizer."""

import abc
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt16
from numpy import ndarray
from numpy.typing import ArrayLike

from lm_jax import files
from lm_jax.types import EOS, PAD


class Tokenizer(abc.ABC):
    """A lossless tokenizer: `decode(encode([text])[0]) == text`, for every text.

    Special ids are as in `lm_jax.types`; no text is encoded as one of them.

    Attributes:
      data: serialized tokenizer, as `save` writes it.
      vocab_size: number of ids, V, special ids included.
    """

    data: bytes
    vocab_size: int

    @abc.abstractmethod
    def encode(self, texts: Sequence[str]) -> list[UInt16[ndarray, "_"]]:
        """The ids of each text, without BOS and EOS."""

    @abc.abstractmethod
    def decode(self, tokens: ArrayLike) -> str:
        """The text of the tokens; special ids are left out."""

    @abc.abstractmethod
    def pieces(self, tokens: ArrayLike) -> list[str]:
        """The text of each token; joined, they are `decode(tokens)`.

        Special ids have empty text. A character of several byte tokens is the text of
        the last one.
        """

    @property
    @abc.abstractmethod
    def num_bytes(self) -> Int[ndarray, " V"]:
        """UTF-8 bytes of the text of each id; EOS, which ends a document, is one.

        Where a space is put before every document, that space is the one, and EOS has
        none.
        """

    @property
    def fingerprint(self) -> str:
        """The hash of the serialized tokenizer."""
        return hashlib.sha256(self.data).hexdigest()

    def documents(self, tokens: ArrayLike) -> list[str]:
        """The documents that EOS ends, up to the first PAD; the last may be cut."""
        ids = np.asarray(tokens)
        ids = ids[: np.argmax(np.append(ids, PAD) == PAD)]
        pieces = np.split(ids, np.flatnonzero(ids == EOS) + 1)
        return [self.decode(piece) for piece in pieces if piece.size]

    def first_document(self, tokens: ArrayLike) -> tuple[str, bool]:
        """The text before the first EOS, and whether there is an EOS."""
        ids = np.asarray(tokens)
        ends = np.flatnonzero(ids == EOS)
        return self.decode(ids[: ends[0]] if ends.size else ids), bool(ends.size)

    def save(self, path: Path | str) -> None:
        """Writes the tokenizer to one file, atomically."""
        with files.whole_file(Path(path)) as part:
            part.write_bytes(self.data)
