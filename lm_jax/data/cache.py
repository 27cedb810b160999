"""The cache of prepared data: each entry is named by the hash of its inputs."""

import hashlib
import json
from pathlib import Path
from typing import Any


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
