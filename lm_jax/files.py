"""Atomic writes, digests and locks of files.

An I/O error never counts as "the file is absent": `OSError` passes through every
function, and a file is absent only if the listing of its directory agrees.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from lm_jax.old_names import renamed

try:
    import fcntl
except ImportError:  # Windows has no fcntl, so nothing is locked there
    fcntl = None

DIGESTS = "sha256"  # key of the digests in a JSON file
LOCK = "lock"  # name of the lock file in a directory


class CorruptFileError(ValueError):
    """The content of a file contradicts its digest or cannot be parsed."""


# Existence.


def exists(path: Path) -> bool:
    """Whether a file or directory exists.

    "No such file" from a network disk may be a transient fault, so the listing of the
    parent directory must agree.

    Raises:
      OSError: the disk returns an error, or its answers disagree.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        if _is_listed(path):
            raise
        return False
    return True


def names(directory: Path) -> list[str]:
    """Names in a directory; [] if it does not exist, checked as in `exists`."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        if _is_listed(directory):
            raise
        return []


def _is_listed(path: Path) -> bool:
    """Whether the parent directory lists the path; False if it cannot be listed.

    Parents of home directories often permit access but no listing.
    """
    try:
        return path.parent != path and path.name in names(path.parent)
    except PermissionError:
        return False


def remove(path: Path) -> None:
    """Removes a file if it exists, which is checked as in `exists`."""
    if exists(path):
        path.unlink()


# Writing.


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Atomic file: yields a temporary path, renamed to `path` without an error."""
    part = _beside(path)
    try:
        yield part
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # already renamed, or the disk has failed
            part.unlink()


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Atomic directory: yields a temporary path, renamed to `path` without an error."""
    part = _beside(path)
    part.mkdir()
    try:
        yield part
        try:
            part.rename(path)
        except OSError:
            if not exists(path):  # else another process has made it already
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def require_writable(path: Path) -> None:
    """Checks, before a long computation, that its result can be written to `path`.

    Raises:
      ValueError: the path is a directory.
      OSError: no file can be created in its directory.
    """
    try:
        if exists(path) and path.is_dir():
            raise ValueError(f"{path} is a directory: name a file in it")
        part = _beside(path)
        part.touch()
        part.unlink()
    except OSError as error:  # it names the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from None


def read_json(path: Path, rename: bool = True) -> Any:
    """The values of a JSON file, with the names of this version.

    To check digests of the values, pass rename=False: they are of the file's own names.

    Raises:
      CorruptFileError: the file is not JSON.
      OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        values = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise CorruptFileError(
            f"{path} is damaged: it is no JSON ({error}); take it from a copy, or "
            "delete it where it can be made again"
        ) from None
    return renamed(values) if rename else values


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file atomically."""
    with whole_file(path) as part:
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")


# Digests.


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_digests(
    values: Mapping[str, Any], directory: Path, files: Iterable[Path]
) -> dict[str, Any]:
    """JSON values with the digests of files below `directory`, and a digest of all."""
    found = {path.relative_to(directory).as_posix(): sha256(path) for path in files}
    return {**values, DIGESTS: {**found, "": _digest({**values, DIGESTS: found})}}


def require_undamaged(path: Path, values: Mapping[str, Any]) -> None:
    """Checks the digests of `with_digests` in `values`, the content of the file `path`.

    Raises:
      CorruptFileError: a digest differs; the message names the file.
      OSError: a file cannot be read.
    """
    if DIGESTS not in values:
        raise CorruptFileError(
            f"{path} is damaged, or of version 0.1.0: it has no digests"
        )
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


# Errors.


@contextlib.contextmanager
def io_error_context(
    directory: str | Path,
    describe_remains: Callable[[], str] = lambda: "nothing half-written",
) -> Iterator[None]:
    """Adds to an OSError the directory, what remains there, and how to continue.

    Args:
      directory: directory that is read or written.
      describe_remains: () -> what an interrupted write leaves, e.g. "no checkpoint".
    """
    try:
        yield
    except OSError as error:
        try:
            remains = describe_remains()
        except OSError:  # the disk cannot be read either
            remains = "what was saved"
        raise OSError(
            f"cannot read or write {directory} ({error.strerror or error}): {remains} "
            "is left there; make room or bring the disk back, and run the same command "
            "again"
        ) from error


# Locking.


@contextlib.contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Exclusive lock on a directory, also against a second writer in this process.

    The lock belongs to an open file, so the kernel releases it whenever the process
    ends. The file that is left behind does not block later runs.

    Raises:
      ValueError: another process holds the lock; the message names it.
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
    """Locks an open file until it is closed; False if another writer has locked it."""
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
    """A new path on the same file system, where a rename is atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
