"""The lock of a run directory: one writer at a time."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is locked
    fcntl = None

NAME = "lock"


@contextlib.contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Holds the directory against a second writer, in this process or in another.

    The lock belongs to an open file, so the kernel drops it when its owner dies,
    however it dies: the file stays, and locks nobody out.

    Raises:
      ValueError: another writer holds it; says which.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / NAME).open("a+", encoding="utf-8") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise ValueError(
                    f"{directory} is being written by {file.read().strip()}: wait for "
                    "its end, or name another --workdir"
                ) from None
            except OSError:
                pass  # a file system without locks
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()
        yield
