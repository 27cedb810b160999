"""The tokenizer loses no text, invents no special id, and is the same every time."""

import itertools
import re

import numpy as np
import pytest
from hard_texts import HARD_TEXTS, TEXTS

from lm_jax.data.tokenizers import load_tokenizer
from lm_jax.data.tokenizers.sentencepiece import train_tokenizer
from lm_jax.types import BOS, EOS, MASK, PAD, UNK


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 330)


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_no_text_is_lost(tokenizer, text):
    """decode(encode(x)) = x."""
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_no_random_text_is_lost(tokenizer):
    """decode(encode(x)) = x for any string of code points."""
    rng = np.random.default_rng(0)
    points = np.concatenate([np.arange(0xD800), np.arange(0xE000, 0x20000)])
    texts = ["".join(map(chr, rng.choice(points, 50))) for _ in range(200)]
    assert list(map(tokenizer.decode, tokenizer.encode(texts))) == texts


def test_special_ids_are_the_contract(tokenizer):
    """PAD, BOS, UNK, MASK and EOS are 0 to 4, and V is what was asked for."""
    processor = tokenizer._processor
    names = [processor.id_to_piece(i) for i in (PAD, BOS, UNK, MASK, EOS)]
    assert names == ["<pad>", "<s>", "<unk>", "[MASK]", "</s>"]
    assert [processor.is_control(i) for i in range(6)] == [1, 1, 0, 1, 1, 0]
    assert tokenizer.vocab_size == 330


def test_no_text_contains_a_special_id(tokenizer):
    """encode(x) > EOS everywhere, also where the text spells a special piece."""
    for tokens in tokenizer.encode(TEXTS + HARD_TEXTS):
        assert tokens.dtype == np.uint16
        assert not tokens.size or tokens.min() > EOS


def test_training_is_reproducible(tokenizer):
    """The same texts give the same model, bit by bit; others do not."""
    assert train_tokenizer(iter(TEXTS), 330).data == tokenizer.data
    other = train_tokenizer([text.replace("bird", "fish") for text in TEXTS], 330)
    assert other.fingerprint != tokenizer.fingerprint


def test_training_leaves_out_what_it_cannot_read():
    """Characters that SentencePiece reserves do not cost the texts they stand in."""
    tokenizer = train_tokenizer([text + " \u2581\u2585\t" for text in TEXTS], 330)
    assert len(tokenizer.encode(["birds"])[0]) < 5


def test_training_stops_reading_a_long_corpus(monkeypatch):
    """An endless corpus is read until there is enough."""
    monkeypatch.setattr(
        "lm_jax.data.tokenizers.sentencepiece.MAX_TRAINING_CHARACTERS", 5_000
    )
    assert train_tokenizer(itertools.cycle(TEXTS), 330).vocab_size == 330


def test_the_vocabulary_is_exact_or_refused():
    """The error names the largest size, which works, and one more does not."""
    with pytest.raises(ValueError, match=r"vocab_size=4000 .*--config") as error:
        train_tokenizer(TEXTS, 4000)
    largest = int(re.findall(r"vocab_size=(\d+)", str(error.value))[-1])
    assert train_tokenizer(TEXTS, largest).vocab_size == largest
    with pytest.raises(ValueError, match=f"vocab_size={largest}, "):
        train_tokenizer(TEXTS, largest + 1)


def test_a_vocabulary_below_the_bytes_is_refused():
    """The error names the smallest size, which works."""
    with pytest.raises(ValueError, match=r"vocab_size=100 .*--config") as error:
        train_tokenizer(TEXTS, 100)
    smallest = int(re.findall(r"vocab_size=(\d+)", str(error.value))[-1])
    assert train_tokenizer(TEXTS, smallest).vocab_size == smallest


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_no_tokenizer(texts):
    """Without text there is a clear error."""
    with pytest.raises(ValueError, match="no text"):
        train_tokenizer(texts, 300)


def test_stories_end_at_eos_and_at_pad(tokenizer):
    """EOS parts stories, PAD ends them, and a cut story counts."""
    one, two = tokenizer.encode(["One day.", "Two birds."])
    row = [BOS, *one, EOS, *two, EOS, EOS, *two[:1], PAD, *one]
    first = tokenizer.decode(two[:1])
    assert tokenizer.documents(row) == ["One day.", "Two birds.", "", first]
    assert tokenizer.documents(np.array([*one, EOS])) == ["One day."]
    assert tokenizer.documents([]) == tokenizer.documents([PAD, *one]) == []


def test_decoding_drops_special_ids(tokenizer):
    """No special id leaves a trace in the text."""
    (tokens,) = tokenizer.encode(["One day."])
    row = [PAD, BOS, UNK, MASK, *tokens[:2], MASK, *tokens[2:], EOS, PAD]
    assert tokenizer.decode(np.array(row, np.int32)) == "One day."


@pytest.mark.parametrize("text", TEXTS[:3] + HARD_TEXTS)
def test_bytes_of_ids_are_bytes_of_text(tokenizer, text):
    """The ids' bytes sum to the bytes of the text, and EOS is one more."""
    (tokens,) = tokenizer.encode([text])
    assert tokenizer.num_bytes[tokens].sum() == len(text.encode())
    assert tokenizer.num_bytes[[PAD, BOS, UNK, MASK, EOS]].tolist() == [0, 0, 0, 0, 1]


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    """load(save(x)) = x."""
    path = tmp_path / "run" / "tokenizer.model"
    tokenizer.save(path)
    assert load_tokenizer(path).fingerprint == tokenizer.fingerprint
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_is_no_tokenizer_is_refused(tokenizer, tmp_path):
    """A missing, damaged or foreign model is named."""
    with pytest.raises(OSError, match="none.model"):
        load_tokenizer(tmp_path / "none.model")
    for data in (b"", b"text", tokenizer.data[:200]):
        (tmp_path / "bad.model").write_bytes(data)
        with pytest.raises(ValueError, match="bad.model.*no tokenizer of this library"):
            load_tokenizer(tmp_path / "bad.model")
