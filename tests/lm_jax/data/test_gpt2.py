"""GPT-2's byte pairs: its ids to the letter, and no text is lost."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hard_texts import HARD_TEXTS, TEXTS

import ar_jax
from lm_jax import run
from lm_jax.config import (
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    SampleConfig,
    TrainConfig,
)
from lm_jax.data import dataset
from lm_jax.data.tokenizers import gpt2, load_tokenizer
from lm_jax.data.tokenizers.gpt2 import FIRST, Gpt2
from lm_jax.types import BOS, EOS, MASK, PAD, UNK

tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(vocab.json, merges.txt) as the reference library trains and writes them."""
    reference = tokenizers.ByteLevelBPETokenizer()
    reference.train_from_iterator(TEXTS * 5, vocab_size=400, show_progress=False)
    reference.add_special_tokens(["<|endoftext|>"])  # GPT-2 has it, and never uses it
    directory = tmp_path_factory.mktemp("gpt2")
    reference.save_model(str(directory))
    return directory / "vocab.json", directory / "merges.txt"


@pytest.fixture(scope="module")
def tokenizer(files):
    return Gpt2.read(*files)


def test_ids_are_those_of_gpt2(tokenizer, files):
    """Id i is FIRST + i, for every text, by the reference's own reader of the files."""
    reference = tokenizers.ByteLevelBPETokenizer.from_file(*map(str, files))
    assert tokenizer.vocab_size == FIRST + reference.get_vocab_size()
    for text in [*TEXTS, *HARD_TEXTS, "it's  I'll 123abc   x\n\n y"]:
        (ids,) = tokenizer.encode([text])
        assert ids.dtype == np.uint16
        assert (ids.astype(int) - FIRST).tolist() == reference.encode(text).ids


def test_no_text_is_lost(tokenizer):
    """decode(encode(x)) = x for every code point of Unicode, and for hard texts."""
    points = [*range(0xD800), *range(0xE000, 0x110000)]
    texts = [
        "".join(map(chr, points[i : i + 5000])) for i in range(0, len(points), 5000)
    ]
    texts += HARD_TEXTS
    assert list(map(tokenizer.decode, tokenizer.encode(texts))) == texts


def test_text_never_becomes_a_special_id(tokenizer):
    """Not even text that spells one, GPT-2's own included."""
    for ids in tokenizer.encode([*TEXTS, *HARD_TEXTS, "<|endoftext|>"]):
        assert not ids.size or ids.min() > EOS
    assert len(tokenizer.encode(["<|endoftext|>"])[0]) > 1


def test_special_ids_leave_no_trace(tokenizer):
    """They are dropped by decode, end stories, and have no bytes but EOS."""
    one, two = tokenizer.encode(["One day.", "Two birds."])
    row = [BOS, UNK, *one, EOS, *two[:1], MASK, *two[1:], EOS, PAD, *one]
    assert tokenizer.documents(row) == ["One day.", "Two birds."]
    assert tokenizer.num_bytes[[PAD, BOS, UNK, MASK, EOS]].tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("text", [*TEXTS[:2], *HARD_TEXTS])
def test_surfaces_joined_are_the_text(tokenizer, text):
    """Each id has its own text; special ids, and what begins a character, have none."""
    (ids,) = tokenizer.encode([text])
    pieces = tokenizer.pieces([*ids, EOS, *ids])
    assert len(pieces) == 2 * len(ids) + 1 and pieces[len(ids)] == ""
    assert "".join(pieces) == text + text
    cut = tokenizer.encode(["a\u00e9"])[0][:-1]  # half a character may end it
    assert "".join(tokenizer.pieces(cut)) == tokenizer.decode(cut)


@pytest.mark.parametrize("text", [*TEXTS[:2], *HARD_TEXTS])
def test_bytes_of_ids_are_bytes_of_text(tokenizer, text):
    """The ids' bytes sum to the bytes of the text."""
    (ids,) = tokenizer.encode([text])
    assert tokenizer.num_bytes[ids].sum() == len(text.encode())


def test_a_saved_vocabulary_is_the_same_without_its_files(files, tokenizer, tmp_path):
    """One file in the run directory holds both, to the letter."""
    tokenizer.save(tmp_path / "tokenizer.model")
    loaded = load_tokenizer(tmp_path / "tokenizer.model")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(TEXTS)[0].tolist() == tokenizer.encode(TEXTS)[0].tolist()
    stored = json.loads((tmp_path / "tokenizer.model").read_text())
    assert [stored["vocab"], stored["merges"]] == [f.read_text() for f in files]


def test_what_is_no_vocabulary_is_refused(files, tmp_path):
    """Missing files, the other order, lost bytes and other merges are named."""
    vocab, merges = files
    with pytest.raises(OSError, match="none.json"):
        Gpt2.read(tmp_path / "none.json", merges)
    with pytest.raises(ValueError, match=r"no vocabulary of GPT-2 .*in this order"):
        Gpt2.read(merges, vocab)
    few = {s: i for i, s in enumerate(list(json.loads(vocab.read_text()))[:50])}
    (tmp_path / "few.json").write_text(json.dumps(few))
    with pytest.raises(ValueError, match="bytes"):
        Gpt2.read(tmp_path / "few.json", merges)
    (tmp_path / "other.txt").write_text("xx yy\n")
    with pytest.raises(ValueError, match=r"merges.txt does not fit"):
        Gpt2.read(vocab, tmp_path / "other.txt")


def test_the_extra_is_named_where_it_is_missing(monkeypatch, files):
    """One sentence, with the way out."""

    def fail(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(gpt2.importlib, "import_module", fail)
    with pytest.raises(ValueError, match=r"pip install -e '.\[gpt2\]'"):
        Gpt2.read(*files)


def test_data_are_read_with_the_files_of_the_config(files, tokenizer, tmp_path):
    """Windows hold GPT-2's ids; another vocab_size or one file alone is refused."""

    def cfg(vocab_size, names):
        return Config(
            data=DataConfig(
                num_stories=30,
                num_valid_stories=5,
                tokenizer="gpt2",
                tokenizer_files=tuple(map(str, names)),
                cache_dir=str(tmp_path),
            ),
            model=ModelConfig(length=512, vocab_size=vocab_size),
        )

    data = dataset.load(cfg(tokenizer.vocab_size, files))
    assert data.tokenizer.documents(data.valid[0])[0] == data.valid_documents[0]
    with pytest.raises(ValueError, match=rf"vocab_size={tokenizer.vocab_size}$"):
        dataset.load(cfg(1000, files))
    with pytest.raises(ValueError, match="two files, and 1 are given"):
        dataset.load(cfg(1000, files[:1]))


@pytest.mark.slow
def test_a_run_needs_its_directory_alone(files, tokenizer, tmp_path):
    """The user's files may go once a run has begun: it samples and scores without."""
    own = [shutil.copy(file, tmp_path) for file in files]
    cfg = Config(
        data=DataConfig(
            num_stories=40,
            num_valid_stories=8,
            windows="stream",
            tokenizer="gpt2",
            tokenizer_files=tuple(own),
            cache_dir=str(tmp_path / "cache"),
        ),
        model=ModelConfig(
            length=16,
            vocab_size=tokenizer.vocab_size,
            width=16,
            num_layers=1,
            num_heads=2,
            ffn_width=16,
        ),
        optimizer=OptimizerConfig(warmup_steps=1),
        train=TrainConfig(num_steps=2, batch_size=8, eval_windows=8, eval_draws=2),
        sample=SampleConfig(num_samples=8, batch_size=8),
        evaluate=EvaluateConfig(max_windows=8, num_draws=2, detail_windows=0),
    )
    assert run.train(ar_jax.FAMILY, cfg, tmp_path / "run")
    for file in own:
        Path(file).unlink()
    shutil.rmtree(tmp_path / "cache")
    samples, _ = run.sample(run.load(tmp_path / "run", ar_jax.FAMILY), prompt="One")
    assert all(story.text.startswith("One") for story in samples)
    scores = run.evaluate(run.load(tmp_path / "run", ar_jax.FAMILY))
    assert scores["num_tokens"] == 128 and scores["num_bytes"] > 128
