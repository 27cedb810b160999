"""Tokenizers of published models, with the ids of this library.

    tokenizer.bin            llama2.c: pieces and scores
    tokenizer.model          SentencePiece: BPE or unigram with bytes
    vocab.json, merges.txt   GPT-2: byte pairs

The first two become a SentencePiece model whose first five pieces are PAD, BOS, UNK,
MASK and EOS; the pieces of the published model follow as in `llama.sources`.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_jax import files
from lm_jax.convert.llama import Llama
from lm_jax.convert.safetensors_files import require_no_pickle
from lm_jax.data.tokenizers import Tokenizer, load_tokenizer
from lm_jax.data.tokenizers.gpt2 import Gpt2
from lm_jax.data.tokenizers.sentencepiece import SentencePiece, parse
from lm_jax.validation import require

OWN = "lm_jax_tokenizer.model"  # in an exported run: the file that the run has
NAMES = (["tokenizer.model"], ["tokenizer.bin"], ["vocab.json", "merges.txt"])
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # types of pieces
UNIGRAM, BPE = 1, 2  # types of models
SPACE = "\u2581"


def find(checkpoint: Path) -> list[Path]:
    """The files of the tokenizer in a directory, or beside a file.

    Raises:
      ValueError: there are none.
    """
    directory = checkpoint if checkpoint.is_dir() else checkpoint.parent
    for names in ([OWN], *NAMES):
        if all(files.exists(directory / name) for name in names):
            return [directory / name for name in names]
    hint = ""
    if files.exists(directory / "tokenizer.json"):
        hint = " (tokenizer.json alone is not read)"
    raise ValueError(
        f"{directory} holds no tokenizer.model, no tokenizer.bin, and no vocab.json "
        f"with merges.txt{hint}: pass --tokenizer=FILE"
    )


def read(paths: Sequence[Path], llama: Llama) -> Tokenizer:
    """The tokenizer of a model, with our ids.

    Args:
      paths: one file, or GPT-2's two.
      llama: sizes of the model, and its ids that begin and end a text.

    Raises:
      ValueError: the files are no tokenizer, or not that of the model.
      OSError: a file cannot be read.
    """
    if llama.is_own:
        tokenizer = load_tokenizer(paths[0])
    elif len(paths) == 2:
        tokenizer = Gpt2.read(*paths, end=llama.eos)
    else:
        require(
            len(paths) == 1,
            f"{len(paths)} files are no tokenizer: give one, or vocab.json,merges.txt",
        )
        tokenizer = _sentencepiece(paths[0], llama)
    num_ids = llama.vocab_size + (0 if llama.is_own else 4)
    require(
        tokenizer.vocab_size == num_ids,
        f"{paths[0]} has {tokenizer.vocab_size - num_ids + llama.vocab_size:,} ids and "
        f"the model {llama.vocab_size:,}: give the tokenizer of this model",
    )
    return tokenizer


def _sentencepiece(path: Path, llama: Llama) -> SentencePiece:
    data = path.read_bytes()
    require_no_pickle(path, data)
    if path.suffix == ".bin":
        model = _from_llama2c(path, data)
    else:
        model = _parsed(path, data)
    require(
        len(model.pieces) <= llama.vocab_size,
        f"{path} has {len(model.pieces):,} ids and the model {llama.vocab_size:,}: "
        "give the tokenizer of this model",
    )
    require(
        any(piece.piece == SPACE for piece in model.pieces),
        f"{path} has no piece for a space alone, so spaces would be lost: choose "
        "another model",
    )
    return SentencePiece(_with_our_ids(model, llama).SerializeToString())


def _parsed(path: Path, data: bytes) -> Any:
    """The SentencePiece model in a file, checked.

    Raises:
      ValueError: it is none, or it would lose something of a text.
    """
    try:
        model = parse(data)
    except ValueError:
        model = parse()
    require(
        len(model.pieces) > 0, f"{path} is no SentencePiece model: give tokenizer.model"
    )
    spec = model.normalizer_spec
    require(
        not spec.precompiled_charsmap and spec.escape_whitespaces,
        f"{path} changes characters of the text ({spec.name}), and no tokenizer of "
        "this library loses text: choose a model whose normalization is 'identity'",
    )
    num_bytes = sum(piece.type == BYTE for piece in model.pieces)
    require(
        model.trainer_spec.byte_fallback and num_bytes == 256,
        f"{path} has {num_bytes} of the 256 bytes, so characters that are no pieces "
        "would be lost: choose a model with byte fallback",
    )
    return model


def _from_llama2c(path: Path, data: bytes) -> Any:
    """The SentencePiece model whose pieces and scores llama2.c stores.

    Its greedy merges are those of BPE with scores: the best pair first, the leftmost
    of equals; a space is put before the text, and bytes stand for other characters.

    Raises:
      ValueError: the file is damaged.
    """
    model, offset = parse(), 4
    try:
        (longest,) = struct.unpack_from("<i", data)
        while offset < len(data):
            score, size = struct.unpack_from("<fi", data, offset)
            offset += 8
            text = data[offset : offset + size].decode("utf-8")
            if not 0 < size <= longest or offset + size > len(data):
                raise ValueError(f"piece {len(model.pieces)} has {size} bytes")
            offset += size
            model.pieces.add(piece=text.replace(" ", SPACE), score=score, type=NORMAL)
        if len(model.pieces) < 259:
            raise ValueError(f"it has {len(model.pieces)} pieces")
        for byte, piece in enumerate(model.pieces[3:259]):
            if piece.piece != f"<0x{byte:02X}>":
                raise ValueError(f"piece {3 + byte} is no byte")
            piece.type = BYTE
    except (struct.error, ValueError) as error:
        raise ValueError(
            f"{path} is no tokenizer of llama2.c ({error}): copy it again"
        ) from None
    for piece, kind in zip(model.pieces, (UNKNOWN, CONTROL, CONTROL), strict=False):
        piece.type = kind
    model.trainer_spec.model_type = BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    return model


def _with_our_ids(model: Any, llama: Llama) -> Any:
    """The model with our five special pieces first, and without the one that ends."""
    ours = parse()
    special = ("<pad>", "<s>", "<unk>", "[MASK]", "</s>")
    for name in special:
        kind = UNKNOWN if name == "<unk>" else CONTROL
        ours.pieces.add(piece=name, score=0.0, type=kind)
    for i in range(llama.vocab_size):
        if i == llama.eos:
            continue
        if i < len(model.pieces) and model.pieces[i].type not in (UNKNOWN, CONTROL):
            ours.pieces.add().CopyFrom(model.pieces[i])
        else:  # no text is encoded as it, and its own text is empty
            ours.pieces.add(piece=f"<published {i}>", score=0.0, type=CONTROL)
    ours.trainer_spec.CopyFrom(model.trainer_spec)
    for name, i in (("pad", 0), ("bos", 1), ("unk", 2), ("eos", 4)):
        setattr(ours.trainer_spec, f"{name}_id", i)
        ours.trainer_spec.ClearField(f"{name}_piece")
    ours.trainer_spec.vocab_size = len(ours.pieces)
    ours.normalizer_spec.CopyFrom(model.normalizer_spec)
    ours.normalizer_spec.remove_extra_whitespaces = False  # no text is lost
    ours.denormalizer_spec.CopyFrom(model.denormalizer_spec)
    return ours
