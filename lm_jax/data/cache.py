"""The cache of prepared data: each entry is named by the hash of its inputs."""

import contextlib
import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

from lm_jax import files

_RECENT = 2.0  # seconds; a later write may leave a time of change this new as it is


def root(cache_dir: str) -> Path:
    """The directory of the cache; creates it if it does not exist.

    Raises:
      ValueError: the directory cannot be created.
    """
    path = Path(cache_dir).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot make the cache directory {path} ({error.strerror}): "
            "choose another one with --config.data.cache_dir"
        ) from None
    return path


def content_key(*parts: Any) -> str:
    """The hash of these parts, which are plain JSON values: name of a cache entry."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def sha256(path: Path, root: Path) -> str:
    """SHA-256 of a file; computed again only if its size or time of change differs.

    Args:
      path: the file.
      root: the directory of the cache, where the result is stored.
    """
    stat = path.stat()
    name = content_key(str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    record = root / "sha256" / name
    if files.exists(record):
        digest = record.read_text(encoding="utf-8", errors="replace")
        if re.fullmatch("[0-9a-f]{64}", digest):
            return digest
    digest = files.sha256(path)
    if time.time() - stat.st_mtime > _RECENT:
        # A cache that cannot be written to, as a shared one, costs time and no more.
        with contextlib.suppress(OSError), files.whole_file(record) as part:
            part.write_text(digest, encoding="utf-8")
    return digest
