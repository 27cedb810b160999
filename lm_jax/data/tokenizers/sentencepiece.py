"""The SentencePiece tokenizer: BPE with byte fallback."""

import functools
import importlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import sentencepiece
from jaxtyping import Int, UInt16
from numpy import ndarray
from numpy.typing import ArrayLike

from lm_jax.data.tokenizers.base import Tokenizer
from lm_jax.types import BOS, EOS, MASK, PAD, UNK

MAX_TRAINING_CHARACTERS = 20_000_000
COVERAGE = 0.9995  # share of characters that get pieces of their own
NUM_BYTES_AND_SPECIAL = 261
_SPACE = "\u2581"  # how SentencePiece writes a space
_RESERVED = {ord(_SPACE): " ", 0x2585: " "}  # SentencePiece skips texts with these


class SentencePiece(Tokenizer):
    """Byte-pair encoding of characters; Kudo and Richardson 2018, arXiv:1808.06226.

    Attributes:
      adds_space: whether a space is put before every text, and removed by `decode`, as
        published models do.
    """

    def __init__(self, data: bytes):
        self.data = data
        try:
            self._processor: Any = sentencepiece.SentencePieceProcessor()
            self._processor.LoadFromSerializedProto(data)
            special = [
                getattr(self._processor, name)()
                for name in ("pad_id", "bos_id", "unk_id", "eos_id")
            ]
            special.append(self._processor.piece_to_id("[MASK]"))
        except RuntimeError:
            special = []
        if special != [PAD, BOS, UNK, EOS, MASK]:
            raise ValueError(
                "this is no tokenizer of this library, where PAD, BOS, UNK, MASK and "
                f"EOS have the ids {PAD}, {BOS}, {UNK}, {MASK} and {EOS}: train another"
            )
        self.vocab_size = self._processor.get_piece_size()
        self.adds_space = self._processor.encode("a", out_type=str)[0][0] == _SPACE

    def encode(self, texts: Sequence[str]) -> list[UInt16[ndarray, "_"]]:
        arrays = self._processor.encode(list(texts), out_type="numpy")
        for i, text in enumerate(texts):
            if _SPACE in text:
                arrays[i] = self._encode_literal_space(text)
        return [array.astype(np.uint16) for array in arrays]

    def decode(self, tokens: ArrayLike) -> str:
        ids = np.asarray(tokens).tolist()
        return self._processor.decode([i for i in ids if i > EOS])

    def pieces(self, tokens: ArrayLike) -> list[str]:
        ids = np.asarray(tokens).tolist()
        found = self._processor.decode([i for i in ids if i > EOS], return_type="proto")
        texts = iter(piece.surface for piece in found.pieces)
        return [next(texts) if i > EOS else "" for i in ids]

    @functools.cached_property
    def num_bytes(self) -> Int[ndarray, " V"]:
        sizes = np.zeros(self.vocab_size, np.int64)
        for i in range(self.vocab_size):
            piece = self._processor.id_to_piece(i).replace(_SPACE, " ")
            sizes[i] = 1 if self._processor.is_byte(i) else len(piece.encode())
            if self._processor.is_control(i):
                sizes[i] = 0
        # Documents have the byte of their end, or of the space before them.
        sizes[:EOS], sizes[EOS] = 0, 0 if self.adds_space else 1
        return sizes

    def _encode_literal_space(self, text: str) -> Int[ndarray, "_"]:
        """Encodes U+2581 as bytes, because SentencePiece would read it as a space."""
        ids = [self._processor.piece_to_id(f"<0x{b:02X}>") for b in _SPACE.encode()]
        literal = np.array(ids, np.int32)
        begin, *parts = text.split(_SPACE)
        first = self._processor.encode(begin, out_type="numpy")
        rest = self._without_space.encode(parts, out_type="numpy")
        return np.concatenate([first, *(x for part in rest for x in (literal, part))])

    @functools.cached_property
    def _without_space(self) -> Any:
        """The processor, without a space before a text."""
        if not self.adds_space:
            return self._processor
        model = parse(self.data)
        model.normalizer_spec.add_dummy_prefix = False
        processor: Any = sentencepiece.SentencePieceProcessor()
        processor.LoadFromSerializedProto(model.SerializeToString())
        return processor


def parse(data: bytes = b"") -> Any:
    """The protocol buffer of a SentencePiece model.

    Raises:
      ValueError: these bytes are none.
    """
    module = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    model = module.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # google.protobuf.message.DecodeError
        raise ValueError(f"this is no SentencePiece model ({error})") from None
    return model


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> SentencePiece:
    """Trains BPE with exactly vocab_size ids; Sennrich et al. 2016, arXiv:1508.07909.

    It reads only the first 20 million characters, so the texts of a large corpus should
    be shuffled. Equal texts give equal models.

    Raises:
      ValueError: the texts do not allow this size.
    """
    beginning = _without_rare(list(_beginning(texts)), vocab_size)
    if not any(beginning):
        raise ValueError("there is no text to train a tokenizer on: give some text")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(beginning),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=COVERAGE,
            pad_id=PAD,
            bos_id=BOS,
            unk_id=UNK,
            eos_id=EOS,
            control_symbols=["[MASK]"],  # the first free id, which is MASK
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            split_digits=True,
            shuffle_input_sentence=False,
            max_sentence_length=2**30,
            num_threads=1,  # stored in the model, which must not depend on the machine
            minloglevel=3,
        )
    except RuntimeError as error:
        raise _with_way_out(error, vocab_size) from None
    return SentencePiece(model.getvalue())


def _beginning(texts: Iterable[str]) -> Iterator[str]:
    room = MAX_TRAINING_CHARACTERS
    for text in texts:
        yield text[:room].translate(_RESERVED)
        room -= len(text)
        if room <= 0:
            return


class VocabularySizeError(ValueError):
    """The training text does not allow this vocabulary size.

    Attributes:
      limit: nearest size that the text allows.
    """

    def __init__(self, vocab_size: int, rule: str, limit: int):
        self.limit = limit
        super().__init__(
            f"ModelConfig.vocab_size={vocab_size} is {rule} {limit}; pass "
            f"--config.model.vocab_size={limit}, or give other text"
        )


def _without_rare(texts: list[str], vocab_size: int) -> list[str]:
    """The texts without the characters that do not fit the vocabulary.

    If the script has more characters than there are pieces, the commonest get three
    quarters of the pieces that are neither bytes nor special; bytes encode the others.
    """
    counts = Counter(character for text in texts for character in text)
    needed, covered = 0, 0
    for _, count in counts.most_common():
        needed, covered = needed + 1, covered + count
        if covered >= COVERAGE * counts.total():
            break
    num_pieces = vocab_size - NUM_BYTES_AND_SPECIAL
    room = 3 * num_pieces // 4
    if needed <= num_pieces or room < 32:
        return texts
    rare = {ord(character): " " for character, _ in counts.most_common()[room:]}
    return [text.translate(rare) for text in texts]


def _with_way_out(error: RuntimeError, vocab_size: int) -> ValueError:
    """An error of SentencePiece as a ValueError that says how to avoid it."""
    for pattern, rule in (
        (r"too high.*<= (\d+)", "more than the training text allows, which is"),
        (r"required_chars\. \d+ vs (\d+)", "fewer than the training text needs:"),
    ):
        if limit := re.search(pattern, str(error)):
            return VocabularySizeError(vocab_size, rule, int(limit[1]))
    return ValueError(f"no tokenizer of {vocab_size} pieces can be trained: {error}")
