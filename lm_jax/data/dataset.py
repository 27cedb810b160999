"""The dataset: a corpus, its tokenizer and its windows."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentencepiece
from absl import logging

from lm_jax import files, progress
from lm_jax.config import Config, require
from lm_jax.data import cache, corpora, splits, text_files
from lm_jax.data.tokenizers import Tokenizer, load_tokenizer
from lm_jax.data.tokenizers.gpt2 import Gpt2
from lm_jax.data.tokenizers.sentencepiece import VocabularySizeError, train_tokenizer
from lm_jax.data.windows import LengthError, cached_windows
from lm_jax.evaluation.ngrams import words
from lm_jax.types import PAD, Windows


class Dataset(NamedTuple):
    """Windows, documents and tokenizer of a corpus, for training and evaluation.

    Attributes:
      name: name of the corpus.
      tokenizer: tokenizer, trained on the training split only if none is given.
      train: training windows, memory-mapped from the cache.
      valid: validation windows, memory-mapped from the cache.
      train_documents: training documents, read from disk on access. With the leaking
        split "chunk", parts of them validate.
      valid_documents: validation documents.
      fingerprint: hash of all documents.
      edition: edition of official TinyStories, "first" or "second"; else "".
    """

    name: str
    tokenizer: Tokenizer
    train: Windows
    valid: Windows
    train_documents: Sequence[str]
    valid_documents: list[str]
    fingerprint: str
    edition: str = ""


def load(cfg: Config, tokenizer: Tokenizer | None = None) -> Dataset:
    """The dataset of a config; prepares whatever is not yet in the cache.

    A tokenizer is trained on the training split, unless one is given.

    Raises:
      ValueError: the corpus, the vocabulary or the window length does not fit.
    """
    corpus = corpora.prepare(cfg.data)
    root = cache.root(cfg.data.cache_dir)
    if tokenizer is None:
        tokenizer = _tokenizer(cfg, corpus, root)
    documents, part = corpus.train, "train"
    if cfg.data.split == "chunk" and corpus.is_held_out:
        # Chunks are held out, not documents.
        documents, part = [*corpus.train, *corpus.valid], "all"
    if cfg.data.max_documents:
        documents = documents[: cfg.data.max_documents]
        part += f" {cfg.data.max_documents}"

    def windows(part: str, texts: Iterable[str]) -> Windows:
        return cached_windows(
            texts,
            tokenizer,
            cfg.model.length,
            cfg.data.windows,
            fingerprint=f"{corpus.fingerprint} {part}",
            directory=root / "windows",
        )

    train = windows(part, documents)
    if cfg.data.split == "document":
        valid = windows("valid", corpus.valid)
    else:
        logging.warning("data.split='chunk' leaks: documents straddle train and valid")
        train, valid = splits.leaking_chunks(train, cfg.data.valid_share, cfg.data.seed)
    return Dataset(
        name=corpus.name,
        tokenizer=tokenizer,
        train=train,
        valid=valid,
        train_documents=documents,
        valid_documents=list(corpus.valid),
        fingerprint=corpus.fingerprint,
        edition=corpus.edition,
    )


def fit(cfg: Config) -> Config:
    """The config with a vocabulary size and windows that fit the user's own text.

    If the text is too small for model.vocab_size, the vocabulary gets the size that it
    allows; if its documents are longer than a window, they are packed as a stream. A
    note is printed. Configs of other corpora are returned unchanged.

    Raises:
      ValueError: the corpus, the vocabulary or the window length does not fit.
    """
    if cfg.data.corpus != "text":
        return cfg
    try:
        load(cfg)
        return cfg
    except VocabularySizeError as error:
        changes: dict[str, Any] = {"model": {"vocab_size": error.limit}}
        reason = error
    except LengthError as error:
        changes, reason = {"data": {"windows": "stream"}}, error
    values = cfg.to_dict()
    for section, fields in changes.items():
        values[section] |= fields
        for name, value in fields.items():
            progress.note(f"{reason}. This run uses {section}.{name}={value}")
    return fit(Config.from_dict(values))


def num_bytes(tokenizer: Tokenizer, windows: Windows) -> int:
    """UTF-8 bytes of the text in the windows; each EOS counts as one."""
    total = 0
    for start in range(0, len(windows), 4096):
        ids = np.ravel(windows[start : start + 4096])
        counts = np.bincount(ids, minlength=tokenizer.vocab_size)
        total += int(counts @ tokenizer.num_bytes)
    return total


def num_words(tokenizer: Tokenizer, windows: Windows) -> int:
    """Words of the text in the windows; a word cut by a window counts as one."""
    return sum(
        len(words(text))
        for window in windows
        for text in tokenizer.documents(window[window != PAD])
    )


def _tokenizer(cfg: Config, corpus: corpora.Corpus, root: Path) -> Tokenizer:
    """The tokenizer of a config, read from its files or trained."""
    option = "--config.data.tokenizer_files"
    files = text_files.paths(cfg.data.tokenizer_files, option)
    if cfg.data.tokenizer == "gpt2":
        require(
            len(files) == 2,
            f"tokenizer='gpt2' reads two files, and {len(files)} are given: pass "
            "--config.data.tokenizer_files=vocab.json,merges.txt, or "
            "--config.data.tokenizer=sentencepiece --config.model.vocab_size=8192",
        )
        tokenizer = Gpt2.read(*files)
    elif files:
        require(
            len(files) == 1,
            f"tokenizer_files={cfg.data.tokenizer_files!r} names {len(files)} files: "
            "a SentencePiece model is one file",
        )
        tokenizer = load_tokenizer(files[0])
    else:
        return _trained_tokenizer(corpus, cfg.model.vocab_size, root)
    require(
        tokenizer.vocab_size == cfg.model.vocab_size,
        f"ModelConfig.vocab_size={cfg.model.vocab_size}, and the tokenizer of "
        f"{cfg.data.tokenizer_files} has {tokenizer.vocab_size} ids: pass "
        f"--config.model.vocab_size={tokenizer.vocab_size}",
    )
    return tokenizer


def _trained_tokenizer(
    corpus: corpora.Corpus, vocab_size: int, root: Path
) -> Tokenizer:
    key = cache.content_key(corpus.fingerprint, vocab_size, sentencepiece.__version__)
    path = root / "tokenizers" / f"{key}.model"
    checksum = path.with_suffix(".sha256")
    if files.exists(path) and files.exists(checksum):
        with contextlib.suppress(ValueError):  # it is damaged
            tokenizer = load_tokenizer(path)
            if checksum.read_text() == tokenizer.fingerprint:
                return tokenizer
    progress.note(f"training a tokenizer of {vocab_size:,} pieces")
    tokenizer = train_tokenizer(_shuffled(corpus.train), vocab_size)
    tokenizer.save(path)
    with files.whole_file(checksum) as part:
        part.write_text(tokenizer.fingerprint)
    return tokenizer


def _shuffled(documents: corpora.Documents) -> Iterator[str]:
    """All documents in a fixed random order: the tokenizer reads only the first."""
    order = np.random.default_rng(0).permutation(len(documents)).tolist()
    for start in range(0, len(order), 1000):
        yield from documents.read(order[start : start + 1000])
