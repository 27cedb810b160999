"""The cache: things prepared once, filed under the hash of what they are made from."""

import hashlib
import json
from pathlib import Path
from typing import Any


def root(cache_dir: str) -> Path:
    """The cache's directory, which exists from now on.

    Raises:
      ValueError: it cannot be made.
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
    """Names what is made from these parts, which are plain JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
