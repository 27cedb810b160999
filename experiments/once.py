"""What takes long is done once, and again only where something else is wanted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lm_jax import files


def once(
    record: Path, wanted: dict[str, Any], do: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What `do` found, which `record` keeps beside what was wanted.

    The record is written last: where it stands, the files of `do` are whole.

    Args:
      record: a JSON file.
      wanted: settings; `do` is called again where they are not those of the record.
      do: () -> numbers.
    """
    stored = files.read_json(record) if files.exists(record) else {}
    if {name: stored.get(name) for name in wanted} != wanted:
        stored = wanted | do()
        files.write_json(record, stored)
    return stored
