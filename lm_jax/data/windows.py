"""Windows: documents packed into rows of L tokens, cached on disk as one array."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from lm_jax import files, progress
from lm_jax.data import cache
from lm_jax.data.tokenizers import Tokenizer
from lm_jax.types import EOS, PAD, Windows

_VERSION = 1  # version of the packing, part of the name of a cache file


class LengthError(ValueError):
    """The documents are too long for windows of mode "document"."""


def pack(documents: Iterable[ndarray], length: int, mode: str) -> Windows:
    """Windows of L tokens, by `pack_stories` ("document") or `cut_stream` ("stream").

    Raises:
      ValueError: L is too long or too short for these documents, or there are none.
    """
    if mode not in _PACKERS:
        raise ValueError(f"windows={mode!r} is unknown: choose 'document' or 'stream'")
    documents = [tokens for tokens in documents if len(tokens)]
    if not documents:
        raise ValueError("there is no text to cut windows from: give some documents")
    return _PACKERS[mode](documents, length)


def pack_stories(documents: list[ndarray], length: int) -> Windows:
    """Windows that each begin with a document; EOS follows every document.

    Further documents fill the window. The part of a document beyond its end is dropped,
    and the next window begins with the next document; only the last window is padded.
    So no position is wasted, and the first document of a window is not selected by
    length: packing only documents that fit would put long ones first and short ones
    last. A diffusion model, which fills L positions, samples from its training
    distribution.

    Raises:
      ValueError: most windows hold no whole document.

    >>> pack_stories([np.array([7, 8]), np.array([9]), np.array([10, 11, 12])], 5)
    array([[ 7,  8,  4,  9,  4],
           [10, 11, 12,  4,  0]], dtype=uint16)
    """
    sizes = np.array([len(tokens) + 1 for tokens in documents])
    begins = np.concatenate([[0], np.cumsum(sizes)])
    stream = np.full(begins[-1] + length, PAD, np.uint16)
    for begin, tokens in zip(begins, documents, strict=False):
        stream[begin : begin + len(tokens)] = tokens
    stream[begins[1:] - 1] = EOS
    first = _first_documents(begins, length)
    if np.mean(sizes[first] > length) > 0.5:
        median = int(np.median(sizes))
        raise LengthError(
            f"most windows of model.length={length} tokens hold no whole document, as "
            f"the median length is {median}: pass --config.model.length={2 * median} "
            "or --config.data.windows=stream"
        )
    rows = np.lib.stride_tricks.sliding_window_view(stream, length)
    return rows[begins[first]]


def cut_stream(documents: list[ndarray], length: int) -> Windows:
    """One stream without EOS, cut every L tokens; the windows of arXiv:2603.22075.

    Raises:
      ValueError: the text is shorter than a window.

    >>> cut_stream([np.array([7, 8]), np.array([9]), np.array([10, 11, 12])], 3)
    array([[ 7,  8,  9],
           [10, 11, 12]], dtype=uint16)
    """
    stream = np.concatenate(documents)
    num_windows = len(stream) // length
    if not num_windows:
        raise ValueError(
            f"{len(stream)} tokens do not fill a window of model.length={length}: give "
            "more text, or pass a smaller --config.model.length"
        )
    windows = stream[: num_windows * length].reshape(num_windows, length)
    return windows.astype(np.uint16)


class TextWindows(NamedTuple):
    """A whole text as windows, of which every token is scored once.

    Attributes:
      windows: the windows.
      num_given: number of tokens at the beginning of each window that an earlier window
        scores; here they are context.
      document: index of the first document of each window.
      num_cut: number of documents that are scored in several windows.
    """

    windows: Windows
    num_given: ndarray
    document: ndarray
    num_cut: int


def pack_all(
    documents: Iterable[ndarray],
    length: int,
    mode: str,
    stride: int = 0,
    alone: bool = False,
) -> TextWindows:
    """Windows that score every token of every document once.

    In mode "document", whole documents fill a window in their order, each with its EOS,
    and a longer document has several windows. In mode "stream", all documents are one
    text without EOS. The windows of a longer text begin every `stride` tokens, so a
    token sees at least length - stride tokens before it, where there are so many.

    Args:
      documents: tokens of each document.
      length: tokens of a window, L.
      mode: "document" or "stream".
      stride: tokens between the beginnings of two windows; 0 is L, without overlap.
      alone: whether no window has tokens of two documents.

    Raises:
      ValueError: there is no text.

    >>> documents = [np.array([7, 8, 9, 10]), np.array([11])]
    >>> pack_all(documents, 3, "document").windows
    array([[ 7,  8,  9],
           [10,  4,  0],
           [11,  4,  0]], dtype=uint16)
    >>> found = pack_all(documents, 3, "document", stride=1)
    >>> found.windows
    array([[ 7,  8,  9],
           [ 8,  9, 10],
           [ 9, 10,  4],
           [11,  4,  0]], dtype=uint16)
    >>> found.num_given
    array([0, 2, 2, 0])
    """
    step = stride or length
    overlap = length - step
    end = [EOS] if mode == "document" else []
    texts = [[*tokens.tolist(), *end] for tokens in documents]
    ends = np.cumsum([len(ids) for ids in texts], dtype=np.int64)
    begins = np.concatenate([[0], ends])[:-1]
    if mode == "stream" and not alone:
        texts = [list(chain.from_iterable(texts))]
    else:  # each document begins at 0
        begins, ends = np.zeros_like(begins), ends - begins
    if not any(texts):
        raise ValueError("there is no text to score: give a file with text")
    rows: list[list[int]] = []
    num_given, document = [], []
    for index, ids in enumerate(texts):
        for begin in range(0, max(len(ids) - overlap, 1), step):
            piece = ids[begin : begin + length]
            if alone or begin or not rows or len(rows[-1]) + len(piece) > length:
                rows.append([])
                num_given.append(overlap if begin else 0)
                document.append(index)
            rows[-1] += piece
    windows = np.full((len(rows), length), PAD, np.uint16)
    for window, row in zip(windows, rows, strict=True):
        window[: len(row)] = row
    # Window i > 0 scores the step tokens from i * step + overlap.
    first, last = ((np.maximum(at - overlap, 0) // step) for at in (begins, ends - 1))
    num_cut = int(np.sum(first < last))
    return TextWindows(windows, np.array(num_given), np.array(document), num_cut)


def without_given(windows: Windows, num_given: ndarray) -> Windows:
    """The windows with PAD in place of given tokens, which leaves the scored ones."""
    is_given = np.arange(windows.shape[1]) < num_given[:, None]
    return np.where(is_given, np.uint16(PAD), windows)


_PACKERS: dict[str, Callable[[list[ndarray], int], Windows]] = {
    "document": pack_stories,
    "stream": cut_stream,
}


def num_tokens(windows: Windows) -> int:
    """The number of scored tokens: all but PAD."""
    return int(np.count_nonzero(windows != PAD))


def cached_windows(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    length: int,
    mode: str,
    *,
    fingerprint: str,
    directory: Path,
) -> Windows:
    """The windows of these texts, memory-mapped from a file in `directory`.

    The fingerprint identifies the texts, which are read only if the file is missing or
    damaged.
    """
    key = cache.content_key(_VERSION, fingerprint, tokenizer.fingerprint, length, mode)
    path = directory / f"{key}.npy"
    if not _is_whole(path):
        _write(path, pack(_tokenised(texts, tokenizer), length, mode))
    return np.load(path, mmap_mode="r")


def _first_documents(begins: ndarray, length: int) -> ndarray:
    """The index of the first document of each window."""
    # The next window begins with the first document after the end of this one.
    following = np.searchsorted(begins, begins[:-1] + length).tolist()
    first, document = [], 0
    while document < len(following):
        first.append(document)
        document = following[document]
    return np.array(first)


def _tokenised(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[ndarray]:
    tracked = progress.over(texts, "tokenising", "documents")
    while chunk := list(islice(tracked, 1000)):
        yield from tokenizer.encode(chunk)


def _write(path: Path, windows: Windows) -> None:
    """Writes an .npy file followed by a CRC-32 checksum of it."""
    with files.whole_file(path) as part:
        with part.open("wb") as file:
            np.save(file, windows)
        checksum = zlib.crc32(np.memmap(part, np.uint8, "r").data)
        with part.open("ab") as file:
            file.write(checksum.to_bytes(4, "little"))


def _is_whole(path: Path) -> bool:
    if not files.exists(path):
        return False
    try:
        data = np.memmap(path, np.uint8, "r")
    except ValueError:  # the file is empty
        return False
    return zlib.crc32(data[:-4].data) == int.from_bytes(data[-4:].tobytes(), "little")
