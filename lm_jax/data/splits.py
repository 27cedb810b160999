"""Splits: a document trains or validates, never both; but for the study's own split."""

import hashlib
import heapq
import re
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import UInt16
from numpy import ndarray

from lm_jax.types import Windows


def digest(text: str, seed: int = 0) -> bytes:
    """Stands for the text, whatever its white space; another seed, another order.

    >>> digest("Tom ran.") == digest("  Tom\\n ran. ")
    True
    """
    normal = " ".join(text.split()).encode()
    return hashlib.blake2b(normal, digest_size=16, key=str(seed).encode()).digest()


def hold_out(texts: Iterable[str], share: float, seed: int) -> frozenset[bytes]:
    """The digests of the texts that validate: this share of the distinct texts.

    They depend on the texts and the seed alone, not on order or repetition, and copies
    of a text stay on one side. Of one distinct text none is held out; see `cut`.
    """
    digests = {digest(text, seed) for text in texts}
    if len(digests) < 2:
        return frozenset()
    num_valid = min(max(1, round(share * len(digests))), len(digests) - 1)
    return frozenset(heapq.nsmallest(num_valid, digests))


def cut(text: str, share: float) -> tuple[str, str]:
    """(what trains, what validates) of a single text: its end validates.

    It is cut at white space near this share from its end, or between characters where
    there is none.

    Raises:
      ValueError: there is nowhere to cut it.

    >>> cut("one two three four", 0.5)
    ('one two', 'three four')
    """
    if len(text) < 2:
        raise ValueError(
            f"the only document has {len(text)} characters, of which none can be held "
            "out: give more text, or pass --config.data.valid_files"
        )
    near = min(max(1, round(len(text) * (1.0 - share))), len(text) - 1)
    spaces = [match.span() for match in re.finditer(r"\s+", text)]
    begin, end = min(spaces, key=lambda at: abs(at[0] - near), default=(near, near))
    if abs(begin - near) > 0.5 * share * len(text):
        begin = end = near
    return text[:begin], text[end:]


def without(texts: Iterable[str], others: Iterable[str]) -> Iterator[str]:
    """The texts that are not among the others."""
    taken = {digest(text) for text in others}
    return (text for text in texts if digest(text) not in taken)


def leaking_chunks(
    windows: Windows, valid_share: float, seed: int
) -> tuple[UInt16[ndarray, "train L"], UInt16[ndarray, "valid L"]]:
    """(train, valid): a random share of the windows of one stream validates.

    It LEAKS: a document that a window's end cuts lies on both sides. Only for running
    arXiv:2603.22075 as its code ran it.
    """
    num_valid = min(max(1, round(valid_share * len(windows))), len(windows) - 1)
    if num_valid < 1:
        raise ValueError("one window cannot be split: give more text")
    order = np.random.default_rng(seed).permutation(len(windows))
    valid, train = np.sort(order[:num_valid]), np.sort(order[num_valid:])
    return windows[train], windows[valid]


def fingerprint(train: Iterable[str], valid: Iterable[str]) -> str:
    """The hash of all texts of both splits.

    Raises:
      ValueError: a text is in both.
    """
    total = hashlib.sha256()
    unseen = {}
    for text in valid:
        unseen[digest(text)] = text
        _update(total, b"v", text)
    num_valid, leaks = len(unseen), []
    for text in train:
        if leak := unseen.pop(digest(text), ""):
            leaks.append(leak)
        _update(total, b"t", text)
    if leaks:
        words = " ".join(leaks[0].split()[:8])
        raise ValueError(
            f"{len(leaks)} of {num_valid} validation documents also stand in the "
            f"training text, the first begins {words!r}: take them out of one side, or "
            "leave out --config.data.valid_files and let documents be held out"
        )
    return total.hexdigest()


def _update(total: "hashlib._Hash", split: bytes, text: str) -> None:
    data = text.encode()
    total.update(b"%s%d:%s" % (split, len(data), data))
