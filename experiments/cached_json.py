"""Caches a result in a JSON file, keyed by the settings that produced it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_jax import files, progress


def cached_json(
    record: Path,
    wanted: dict[str, Any],
    do: Callable[[], dict[str, Any]],
    makes: Sequence[Path] = (),
) -> dict[str, Any]:
    """What `do` found, which `record` keeps beside what was wanted.

    The record is written last and holds the digests of the files that `do` makes, so
    that what somebody else has put in their place is never taken for the result.

    Args:
      record: a JSON file.
      wanted: settings, as JSON; `do` is called again where the record has others.
      do: () -> numbers.
      makes: files that `do` makes, in the directory of the record or below it.

    Returns:
      wanted and the numbers, in one dictionary.
    """
    if files.exists(record):
        try:
            stored = files.read_json(record)
            if isinstance(stored, dict) and stored.get("wanted") == wanted:
                files.require_undamaged(record, stored)
                return wanted | stored["found"]
        except files.CorruptFileError as damage:
            progress.note(f"{damage}: made again")
    found = do()
    values = {"wanted": wanted, "found": found}
    files.write_json(record, files.with_digests(values, record.parent, makes))
    return wanted | found
