"""Text files: documents read one at a time from .txt, .gz and .xz files."""

import gzip
import lzma
import zlib
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from pathlib import Path

from lm_jax.validation import split_list

MARK = "<|endoftext|>"


def paths(
    files: str | Iterable[str],
    option: str = "--config.data.train_files or --config.data.valid_files",
) -> list[Path]:
    """The files as paths; a comma-separated list is split. Errors name `option`.

    Raises:
      ValueError: a path is no file, or an empty one.
    """
    names = split_list(files) if isinstance(files, str) else files
    found = [Path(name).expanduser() for name in names]
    for path in found:
        if not path.exists():
            raise ValueError(f"the text file {path} does not exist: correct {option}")
        if not path.is_file():
            raise ValueError(f"{path} is no file: name text files with {option}")
        if not path.stat().st_size:
            raise ValueError(f"the text file {path} is empty: give one that has text")
    return found


def documents(path: Path) -> Iterator[str]:
    """The non-empty documents of a file, without white space at their ends.

    `<|endoftext|>` separates documents; in a file without it, blank lines do. Line ends
    become "\\n", a byte order mark is removed, and all else is unchanged.

    Raises:
      ValueError: the file is damaged, not UTF-8, or holds no document.
    """
    is_marked = any(MARK in line for line in _lines(path))
    num_documents = 0
    for text in _split(_lines(path), is_marked):
        if text := text.strip():
            num_documents += 1
            yield text
    if not num_documents:
        raise ValueError(
            f"the text file {path} holds no document: give one that is not blank"
        )


def lines(path: Path) -> list[str]:
    """All lines of a file, blank ones too, without their ends.

    Raises:
      ValueError: the file is damaged or not UTF-8.
    """
    return [line.removesuffix("\n") for line in _lines(path)]


def _split(lines: Iterable[str], is_marked: bool) -> Iterator[str]:
    document: list[str] = []
    for line in lines:
        if not is_marked and not line.strip():
            line = MARK
        *ends, rest = line.split(MARK)
        for end in ends:
            yield "".join([*document, end])
            document = []
        document.append(rest)
    yield "".join(document)


def _lines(path: Path) -> Iterator[str]:
    offset = 0
    try:
        with _open(path) as file:
            for line in file:
                text = _decode(line, path, offset)
                yield text.replace("\r\n", "\n").removeprefix(
                    "" if offset else "\ufeff"
                )
                offset += len(line)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} cannot be unpacked ({error}): it is damaged, or its suffix is "
            "wrong; give a valid file"
        ) from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def _open(path: Path) -> BufferedIOBase:
    openers = {".gz": gzip.GzipFile, ".xz": lzma.LZMAFile}
    return openers.get(path.suffix.lower(), open)(path, "rb")


def _decode(line: bytes, path: Path, offset: int) -> str:
    if (position := line.find(0)) >= 0:
        raise ValueError(
            f"{path} is binary: byte {offset + position} is zero; give UTF-8 text"
        )
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {offset + error.start} is "
            f"0x{line[error.start]:02x}; convert it to UTF-8"
        ) from None
