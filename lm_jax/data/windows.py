"""Windows: documents packed into rows of L tokens, on disk as one array."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy import ndarray

from lm_jax import files, progress
from lm_jax.data import cache
from lm_jax.data.tokenizer import Tokenizer
from lm_jax.types import EOS, PAD, Windows

_VERSION = 1  # of the packing: another one, another cache file


class LengthError(ValueError):
    """Documents are too long for windows that each begin with one."""


def pack(documents: Iterable[ndarray], length: int, mode: str) -> Windows:
    """Windows of L tokens: mode "document" or "stream".

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
    """Every window begins with a document, and EOS follows each.

    Further documents fill the window. What its end cuts off is dropped, and the next
    window begins with the next document; only the last window is padded. So no position is
    wasted, and every window begins with a fresh document that no rule has picked: packing
    only what fits would put long documents in front and short ones behind. And a
    diffusion model, which fills L positions, draws from just what it was trained on.

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
            f"most windows of model.length={length} tokens hold no whole document, whose "
            f"median length is {median}: pass --config.model.length={2 * median}, or "
            "--config.data.windows=stream"
        )
    rows = np.lib.stride_tricks.sliding_window_view(stream, length)
    return rows[begins[first]]


def cut_stream(documents: list[ndarray], length: int) -> Windows:
    """One unbroken stream without EOS, cut every L tokens; the study's windows.

    Raises:
      ValueError: there is less text than a window.

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


def pack_all(documents: Iterable[ndarray], length: int, mode: str) -> Windows:
    """Windows that hold every token of every document once, to score all of a text.

    A window is filled with whole documents in their order, each with its EOS; a longer
    one is cut into windows of its own. Mode "stream" has no EOS, as in training.

    Raises:
      ValueError: there is no text.

    >>> pack_all([np.array([7, 8, 9, 10]), np.array([11])], 3, "document")
    array([[ 7,  8,  9],
           [10,  4,  0],
           [11,  4,  0]], dtype=uint16)
    """
    end = [EOS] if mode == "document" else []
    rows: list[list[int]] = []
    for tokens in documents:
        ids = [*tokens.tolist(), *end]
        for begin in range(0, len(ids), length):
            piece = ids[begin : begin + length]
            if begin or not rows or len(rows[-1]) + len(piece) > length:
                rows.append([])
            rows[-1] += piece
    if not rows:
        raise ValueError("there is no text to score: give a file that has some")
    windows = np.full((len(rows), length), PAD, np.uint16)
    for window, row in zip(windows, rows, strict=True):
        window[: len(row)] = row
    return windows


_PACKERS: dict[str, Callable[[list[ndarray], int], Windows]] = {
    "document": pack_stories,
    "stream": cut_stream,
}


def num_tokens(windows: Windows) -> int:
    """The tokens that are scored: all but PAD."""
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
    """The windows of these texts, in a file that is mapped into memory.

    The fingerprint stands for the texts, which are read only where there is no such
    file yet, or a damaged one.
    """
    key = cache.content_key(_VERSION, fingerprint, tokenizer.fingerprint, length, mode)
    path = directory / f"{key}.npy"
    if not _is_whole(path):
        _write(path, pack(_tokenised(texts, tokenizer), length, mode))
    return np.load(path, mmap_mode="r")


def _first_documents(begins: ndarray, length: int) -> ndarray:
    """For each window, the document that it begins with."""
    # The next window begins with the first document behind the end of this one.
    following = np.searchsorted(begins, begins[:-1] + length).tolist()
    first, document = [], 0
    while document < len(following):
        first.append(document)
        document = following[document]
    return np.array(first)


def _tokenised(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[ndarray]:
    told = progress.over(texts, "tokenising", "documents")
    while chunk := list(islice(told, 1000)):
        yield from tokenizer.encode(chunk)


def _write(path: Path, windows: Windows) -> None:
    """An .npy file and, behind its array, a checksum of all that stands before."""
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
    except ValueError:  # it is empty
        return False
    return zlib.crc32(data[:-4].data) == int.from_bytes(data[-4:].tobytes(), "little")
