"""Words and n-grams, which all text metrics count.

A word is an element of `text.lower().split()`, punctuation included. In scripts without
spaces between words (Chinese, Japanese, Thai, ...) each character with its marks is a
word. No n-gram crosses the end of a document.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int, UInt64

# Thai, Lao, Tibetan, Myanmar, Khmer, kana, bopomofo, ideographs.
_SPACELESS = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff]"
)
_HASH_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication is invertible


def words(text: str) -> list[str]:
    """The words of a text, in lower case, separated by white space.

    >>> words("Tom ran.  He fell!")
    ['tom', 'ran.', 'he', 'fell!']
    >>> words("小猫 ran。")
    ['小', '猫', 'ran。']
    """
    parts = text.lower().split()
    if not is_spaceless(text):
        return parts
    return [word for part in parts for word in _characters(part)]


def is_spaceless(text: str) -> bool:
    """Whether the text has a character of a script without spaces between words."""
    return not text.isascii() and _SPACELESS.search(text) is not None


def opening(text: str, num_words: int = 5) -> str:
    """The first words of a text, in lower case; all of them if there are fewer.

    >>> opening("Once upon a time, there was a cat.")
    'once upon a time, there'
    """
    if is_spaceless(text):
        return " ".join(words(text)[:num_words])
    return " ".join(text.split(maxsplit=num_words)[:num_words]).lower()


def ngram_hashes(
    documents: Sequence[str], n: int
) -> tuple[UInt64[np.ndarray, " ngrams"], Int[np.ndarray, " ngrams"]]:
    """A 64-bit hash of every n-gram, and the index of its document.

    Hashes are the same in every process; two of 2 million n-grams collide with
    probability 1e-7.
    """
    word_hash: dict[str, int] = {}
    rows, lengths = [], []
    for document in documents:
        tokens = words(document)
        for word in tokens:
            if word not in word_hash:
                word_hash[word] = _hash(word)
        rows.append(np.array([word_hash[word] for word in tokens], np.uint64))
        lengths.append(len(tokens))
    flat = np.concatenate(rows) if rows else np.zeros(0, np.uint64)
    document_of = np.repeat(np.arange(len(lengths)), lengths)
    count = max(len(flat) - n + 1, 0)
    hashes = np.zeros(count, np.uint64)
    for offset in range(n):
        hashes = hashes * _HASH_BASE + flat[offset : offset + count]
    is_inside = document_of[:count] == document_of[n - 1 : n - 1 + count]
    return hashes[is_inside], document_of[:count][is_inside]


def incidence(
    documents: Sequence[str], n: int
) -> tuple[Int[np.ndarray, " documents"], Int[np.ndarray, " documents"], int]:
    """(n-grams per document, those in no other document, distinct n-grams in all)."""
    hashes, document = ngram_hashes(documents, n)
    # A stable sort keeps the order of the documents within an n-gram.
    order = np.argsort(hashes, kind="stable")
    hashes, owner = hashes[order], document[order]
    begins = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]][: len(hashes)])
    ends = np.r_[begins[1:], len(hashes)][: len(begins)] - 1
    first, last = owner[begins], owner[ends]
    num_ngrams = np.bincount(document, minlength=len(documents))
    own = np.bincount(first[first == last], minlength=len(documents))
    return num_ngrams, own, len(begins)


def _characters(part: str) -> Iterator[str]:
    """Splits off each character of a script without spaces, with its marks."""
    word, is_run = "", False
    for character in part:
        is_other = not _SPACELESS.match(character)
        is_mark = unicodedata.category(character).startswith("M")
        if word and not (is_mark or (is_run and is_other)):
            yield word
            word = ""
        word, is_run = word + character, is_other
    if word:
        yield word


def _hash(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
