"""Files: written whole or not at all, checked by digests, and locked by one writer.

An error of the disk is never taken for an answer. `OSError` passes through every
function here; a file counts as absent only where its directory's own list says so.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from lm_jax.old_names import renamed

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is locked
    fcntl = None

DIGESTS = "sha256"  # the key of digests in a JSON file
LOCK = "lock"  # the file that stands for a locked directory


class CorruptFileError(ValueError):
    """A file is not what was written: a digest or a parser has refuted it."""


# Looking.


def exists(path: Path) -> bool:
    """Whether there is such a file or directory.

    "No such file" from a network disk may be a passing fault, so the list of the
    directory above must agree.

    Raises:
      OSError: the disk does not say, or contradicts itself.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        if _is_listed(path):
            raise
        return False
    return True


def names(directory: Path) -> list[str]:
    """The names in a directory; none where it does not exist, as in `exists`."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        if _is_listed(directory):
            raise
        return []


def _is_listed(path: Path) -> bool:
    """Whether the directory above names the path; no, where it may not be listed, as
    with many a home directory that others may only pass through."""
    try:
        return path.parent != path and path.name in names(path.parent)
    except PermissionError:
        return False


def remove(path: Path) -> None:
    """Removes a file where there is one, as in `exists`."""
    if exists(path):
        path.unlink()


# Writing.


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write, which appears at `path` once it is whole, or never."""
    part = _beside(path)
    try:
        yield part
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or the disk has failed
            part.unlink()


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A directory to fill, which appears at `path` once it is whole, or never."""
    part = _beside(path)
    part.mkdir()
    try:
        yield part
        try:
            part.rename(path)
        except OSError:
            if not exists(path):  # else another process was as good, and faster
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def require_writable(path: Path) -> None:
    """Checks, before a long computation, that its result can be written to `path`.

    Raises:
      ValueError: the path is a directory.
      OSError: its directory takes no file.
    """
    try:
        if exists(path) and path.is_dir():
            raise ValueError(f"{path} is a directory: name a file in it")
        part = _beside(path)
        part.touch()
        part.unlink()
    except OSError as error:  # of a name that the user does not know
        raise OSError(error.errno, error.strerror, str(path)) from None


def read_json(path: Path) -> Any:
    """The values of a JSON file.

    Raises:
      CorruptFileError: it is no JSON.
      OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        return renamed(json.loads(data.decode("utf-8")))
    except ValueError as error:
        raise CorruptFileError(
            f"{path} is damaged: it is no JSON ({error}); take it from a copy, or "
            "delete it where it can be made again"
        ) from None


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    with whole_file(path) as part:
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")


# Digests.


def sha256(path: Path) -> str:
    """The hash of the file's bytes, as they lie on the disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_digests(
    values: Mapping[str, Any], directory: Path, files: Iterable[Path]
) -> dict[str, Any]:
    """JSON values with the digests of files below `directory`, and with their own."""
    found = {path.relative_to(directory).as_posix(): sha256(path) for path in files}
    return {**values, DIGESTS: {**found, "": _digest({**values, DIGESTS: found})}}


def require_undamaged(path: Path, values: Mapping[str, Any]) -> None:
    """Checks what `with_digests` returned, read from `path`, and the files it names.

    Values without digests pass: runs of version 0.1.0 have none.

    Raises:
      CorruptFileError: names the file that is not what was written.
      OSError: a file cannot be read.
    """
    if DIGESTS not in values:
        return
    expected = dict(values[DIGESTS])
    if expected.pop("", None) != _digest({**values, DIGESTS: expected}):
        raise CorruptFileError(f"{path} is damaged: it is not what was written")
    for name, digest in expected.items():
        file = path.parent / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise CorruptFileError(
                f"{path} is damaged: it names {name}, outside its folder"
            )
        if not exists(file):
            raise CorruptFileError(f"{file} is damaged: it is missing")
        if sha256(file) != digest:
            raise CorruptFileError(f"{file} is damaged: it is not what was written")


# Locking.


@contextlib.contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Holds the directory against a second writer, in this process or in another.

    The lock belongs to an open file, so the kernel drops it when its owner dies,
    however it dies: the file stays, and locks nobody out.

    Raises:
      ValueError: another writer holds it; says which.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a+", encoding="utf-8") as file:
        if not lock(file):
            file.seek(0)
            raise ValueError(
                f"{directory} is being written by {file.read().strip()}: wait for its "
                "end, or name another --workdir"
            )
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()
        yield


def lock(file: IO[Any]) -> bool:
    """Locks an open file until it is closed; False where another has locked it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _beside(path: Path) -> Path:
    """A new name on the same disk, as only there a rename is atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
