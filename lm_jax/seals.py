"""Seals: checksums of files, by which damage is found before it is used."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lm_jax.data.text_files import sha256

SEAL = "sha256"


def seal(values: Mapping[str, Any], files: Iterable[Path]) -> dict[str, Any]:
    """JSON values that vouch for themselves and for files beside them."""
    sums = {path.name: sha256(path) for path in files}
    return {**values, SEAL: {**sums, "": _digest({**values, SEAL: sums})}}


def require_whole(path: Path, values: Mapping[str, Any]) -> None:
    """Checks what `seal` returned, read from `path`. Values without a seal pass: runs
    of version 0.1.0 have none.

    Raises:
      ValueError: names the file that is not what was written.
    """
    if SEAL not in values:
        return
    sums = dict(values[SEAL])
    own = sums.pop("", None)
    damaged = [path] if own != _digest({**values, SEAL: sums}) else []
    for name, expected in sums.items():
        file = path.with_name(Path(name).name)  # never beyond its own directory
        if not file.is_file() or sha256(file) != expected:
            damaged.append(file)
    if damaged:
        raise ValueError(
            f"{damaged[0]} is damaged: it is not what was written when the run began; "
            "take it from a copy, or name another --workdir"
        )


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
