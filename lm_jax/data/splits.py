"""Train/validation splits by document, and the leaking split of arXiv:2603.22075."""

import hashlib
import heapq
import re
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import UInt16
from numpy import ndarray

from lm_jax.types import Windows


def digest(text: str, seed: int = 0) -> bytes:
    """The hash of a text without regard to white space; the seed changes the order.

    >>> digest("Tom ran.") == digest("  Tom\\n ran. ")
    True
    """
    normal = " ".join(text.split()).encode()
    return hashlib.blake2b(normal, digest_size=16, key=str(seed).encode()).digest()


def hold_out(texts: Iterable[str], share: float, seed: int) -> frozenset[bytes]:
    """The digests of the validation texts: this share of the distinct texts.

    They depend on the texts and the seed alone, not on order or repetition, and copies
    of a text stay in one split. A single distinct text is not held out; see `cut`.
    """
    digests = {digest(text, seed) for text in texts}
    if len(digests) < 2:
        return frozenset()
    num_valid = min(max(1, round(share * len(digests))), len(digests) - 1)
    return frozenset(heapq.nsmallest(num_valid, digests))


def cut(text: str, share: float) -> tuple[str, str]:
    """(training part, validation part) of a single text: its end validates.

    The cut is at white space near this share from the end, or between characters where
    there is none.

    Raises:
      ValueError: the text is too short to cut.

    >>> cut("one two three four", 0.5)
    ('one two', 'three four')
    """
    if len(text) < 2:
        raise ValueError(
            f"the only document has {len(text)} characters, too few to hold some "
            "out: give more text, or pass --config.data.valid_files"
        )
    near = min(max(1, round(len(text) * (1.0 - share))), len(text) - 1)
    spaces = [match.span() for match in re.finditer(r"\s+", text)]
    begin, end = min(spaces, key=lambda at: abs(at[0] - near), default=(near, near))
    if abs(begin - near) > 0.5 * share * len(text):
        begin = end = near
    return text[:begin], text[end:]


def without(texts: Iterable[str], others: Iterable[str]) -> Iterator[str]:
    """The texts that are not among `others`, compared by `digest`."""
    taken = {digest(text) for text in others}
    return (text for text in texts if digest(text) not in taken)


def leaking_chunks(
    windows: Windows, valid_share: float, seed: int
) -> tuple[UInt16[ndarray, "train L"], UInt16[ndarray, "valid L"]]:
    """(train, valid): a random share of the windows of one stream validates.

    It LEAKS: a document cut by the end of a window is in both splits. Only to reproduce
    the code of arXiv:2603.22075.
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
      ValueError: a text is in both splits.
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
            f"{len(leaks)} of {num_valid} validation documents are also training "
            f"documents; the first begins {words!r}: remove them from one split, or "
            "leave out --config.data.valid_files to hold documents out"
        )
    return total.hexdigest()


def _update(total: "hashlib._Hash", split: bytes, text: str) -> None:
    data = text.encode()
    total.update(b"%s%d:%s" % (split, len(data), data))
