"""Tokenizers as tokenizer.json, the format of the package tokenizers."""

import json
from typing import Any

from lm_jax.convert.tokenizers import NORMAL, SPACE, UNIGRAM
from lm_jax.data.tokenizers import Tokenizer
from lm_jax.data.tokenizers.gpt2 import Gpt2, merges_of
from lm_jax.data.tokenizers.sentencepiece import SentencePiece, parse
from lm_jax.types import BOS
from lm_jax.validation import require

SPECIAL = ("<pad>", "<s>", "<unk>", "[MASK]", "</s>")  # PAD, BOS, UNK, MASK, EOS


def render(tokenizer: Tokenizer, *, begins_with_bos: bool) -> dict[str, Any]:
    """The content of tokenizer.json.

    Args:
      tokenizer: tokenizer of a run.
      begins_with_bos: whether every encoded text begins with BOS.

    Raises:
      ValueError: the tokenizer is of another kind.
    """
    if isinstance(tokenizer, SentencePiece):
        parts = _sentencepiece(tokenizer)
    elif isinstance(tokenizer, Gpt2):
        parts = _gpt2(tokenizer)
    else:
        raise ValueError(
            f"{type(tokenizer).__name__} has no tokenizer.json: export a run with "
            "SentencePiece or GPT-2's tokenizer"
        )
    usual = {"single_word": False, "lstrip": False, "rstrip": False}
    added = [
        {"id": i, "content": name, **usual, "normalized": False, "special": True}
        for i, name in enumerate(SPECIAL)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "post_processor": _with_bos() if begins_with_bos else None,
        **parts,
    }


def settings(tokenizer: Tokenizer, length: int) -> dict[str, Any]:
    """The content of tokenizer_config.json, for windows of `length` tokens."""
    pad, bos, unk, mask, eos = SPECIAL
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pad,
        "bos_token": bos,
        "unk_token": unk,
        "mask_token": mask,
        "eos_token": eos,
        "add_prefix_space": isinstance(tokenizer, SentencePiece)
        and tokenizer.adds_space,
        "clean_up_tokenization_spaces": False,
        "model_max_length": length,
    }


def _with_bos() -> dict[str, Any]:
    bos = {"SpecialToken": {"id": SPECIAL[BOS], "type_id": 0}}
    first, second = ({"Sequence": {"id": x, "type_id": 0}} for x in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [bos, first],
        "pair": [bos, first, second],
        "special_tokens": {
            SPECIAL[BOS]: {"id": SPECIAL[BOS], "ids": [BOS], "tokens": [SPECIAL[BOS]]}
        },
    }


def _sentencepiece(tokenizer: SentencePiece) -> dict[str, Any]:
    model = parse(tokenizer.data)
    pieces = list(model.pieces)
    before = [{"type": "Prepend", "prepend": SPACE}] if tokenizer.adds_space else []
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    restore = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    decoders = [restore, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if tokenizer.adds_space:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    if model.trainer_spec.model_type == UNIGRAM:
        body = {
            "type": "Unigram",
            "unk_id": 2,
            "vocab": [[piece.piece, piece.score] for piece in pieces],
            "byte_fallback": True,
        }
    else:
        body = {
            "type": "BPE",
            "unk_token": SPECIAL[2],
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece.piece: i for i, piece in enumerate(pieces)},
            "merges": _merges(pieces),
        }
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*before, replace]},
        "pre_tokenizer": None,
        "model": body,
        "decoder": {"type": "Sequence", "decoders": decoders},
    }


def _merges(pieces: list[Any]) -> list[list[str]]:
    """The pairs that make each piece, the best piece first.

    SentencePiece merges the pair whose piece has the best score, the leftmost of
    equals; here pairs of one piece have an order too, which only matters where two of
    them overlap.
    """
    rank = {p.piece: -p.score for p in pieces if p.type == NORMAL}
    pairs = [
        (rank[piece], piece[:i], piece[i:])
        for piece in rank
        for i in range(1, len(piece))
        if piece[:i] in rank and piece[i:] in rank
    ]
    return [[left, right] for _, left, right in sorted(pairs)]


def _gpt2(tokenizer: Gpt2) -> dict[str, Any]:
    stored = json.loads(tokenizer.data)
    vocab = dict(zip(SPECIAL, range(5), strict=True)) | tokenizer.symbols
    require(
        len(vocab) == tokenizer.vocab_size,
        f"the vocabulary has one of {', '.join(SPECIAL)}, which are special here: this "
        "run has no tokenizer.json",
    )
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    byte_level["trim_offsets"] = True
    return {
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": [list(pair) for pair in merges_of(stored["merges"])],
        },
        "decoder": byte_level,
    }
