"""The GPT-2 tokenizer, from the user's own vocab.json and merges.txt."""

import functools
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt16
from numpy import ndarray
from numpy.typing import ArrayLike

from lm_jax.data.tokenizers.base import Tokenizer
from lm_jax.types import EOS

FIRST = EOS + 1  # id i of GPT-2 is FIRST + i here: the special ids come first


class Gpt2(Tokenizer):
    """Byte-level BPE within words; Radford et al. 2019, section 2.2, by `tokenizers`.

    GPT-2's regular expression splits the text into words. `<|endoftext|>` in a text is
    ordinary text; EOS ends a document, and GPT-2's id of `<|endoftext|>` is unused, or
    is EOS where the file names it as "end".
    """

    def __init__(self, data: bytes):
        self.data = data
        try:
            stored = json.loads(data)
            vocab: dict[str, int] = json.loads(stored["vocab"])
            merges = merges_of(stored["merges"])
            end = int(stored.get("end", len(vocab)))
            is_whole = sorted(vocab.values()) == list(range(len(vocab)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"this is no vocabulary of GPT-2 ({error}): give its vocab.json and "
                "its merges.txt, in this order"
            ) from None
        library = _library()
        symbols = {symbol for symbol, i in vocab.items() if i != end}
        missing = set(library.pre_tokenizers.ByteLevel.alphabet()) - symbols
        if missing or not is_whole:
            raise ValueError(
                f"the vocabulary lacks {len(missing)} of the 256 bytes, or its ids are "
                "not 0 to V - 1: text would be lost; give GPT-2's own vocab.json"
            )
        # Our ids of theirs, and theirs of ours from FIRST on.
        self._theirs = np.array([i for i in range(len(vocab)) if i != end])
        self._ours = np.full(len(vocab), EOS)
        self._ours[self._theirs] = FIRST + np.arange(len(self._theirs))
        self.vocab_size = FIRST + len(self._theirs)
        self._vocab = vocab
        try:
            self._processor: Any = library.Tokenizer(library.models.BPE(vocab, merges))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ValueError(
                f"merges.txt does not fit vocab.json ({error}): give the pair of one "
                "model"
            ) from None
        byte_level = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._processor.pre_tokenizer = byte_level
        self._processor.decoder = library.decoders.ByteLevel()

    @classmethod
    def read(
        cls, vocab_file: Path, merges_file: Path, *, end: int | None = None
    ) -> "Gpt2":
        """Reads a tokenizer from both files, whose text it keeps unchanged.

        Args:
          vocab_file, merges_file: GPT-2's files.
          end: id in them that is to be EOS; default: none.

        Raises:
          ValueError: the files are no vocabulary of GPT-2.
          OSError: a file cannot be read.
        """
        texts: dict[str, Any] = {} if end is None else {"end": end}
        for name, path in (("vocab", vocab_file), ("merges", merges_file)):
            try:
                texts[name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"cannot read {path} ({error}): pass GPT-2's "
                    "--config.data.tokenizer_files=vocab.json,merges.txt"
                ) from None
        return cls(json.dumps(texts, sort_keys=True).encode())

    def encode(self, texts: Sequence[str]) -> list[UInt16[ndarray, "_"]]:
        encoded = self._processor.encode_batch(list(texts), add_special_tokens=False)
        return [self._ours[np.array(e.ids, int)].astype(np.uint16) for e in encoded]

    def decode(self, tokens: ArrayLike) -> str:
        ids = np.asarray(tokens, int)
        theirs = self._theirs[ids[ids >= FIRST] - FIRST].tolist()
        return self._processor.decode(theirs, skip_special_tokens=False)

    def pieces(self, tokens: ArrayLike) -> list[str]:
        found, pending = [], []
        ids = np.asarray(tokens).tolist()
        last = max((at for at, i in enumerate(ids) if i >= FIRST), default=-1)
        for position, i in enumerate(ids):
            found.append("")
            if i < FIRST:
                continue
            pending.append(i)
            text = self.decode(pending)
            if position == last or not text.endswith("\ufffd"):  # whole character
                found[-1], pending = text, []
        return found

    @property
    def symbols(self) -> dict[str, int]:
        """Our id of each symbol of the vocabulary, without that of EOS."""
        ids = {symbol: int(self._ours[i]) for symbol, i in self._vocab.items()}
        return {symbol: i for symbol, i in ids.items() if i != EOS}

    @functools.cached_property
    def num_bytes(self) -> Int[ndarray, " V"]:
        sizes = np.zeros(self.vocab_size, np.int64)
        for symbol, i in self._vocab.items():
            # GPT-2 writes every byte as one character.
            sizes[self._ours[i]] = len(symbol)
        sizes[EOS] = 1
        return sizes


def merges_of(text: str) -> list[tuple[str, str]]:
    """The pairs of merges.txt, in order; its first line may name a version."""
    lines = text.replace("\r\n", "\n").split("\n")
    lines = lines[1:] if lines[0].startswith("#version") else lines
    pairs = [tuple(line.split(" ")) for line in lines if line]
    if not all(len(pair) == 2 for pair in pairs):
        raise ValueError("a line of merges.txt is no pair")
    return pairs  # pyright: ignore[reportReturnType]


def _library() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ImportError:
        raise ValueError(
            "tokenizer='gpt2' needs the package tokenizers: pip install -e '.[gpt2]'"
        ) from None
