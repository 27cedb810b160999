"""Caches a result in a JSON file, keyed by the settings that produced it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_jax import files, progress
from lm_jax.old_names import renamed


def cached_json(
    record: Path,
    wanted: dict[str, Any],
    do: Callable[[], dict[str, Any]],
    makes: Sequence[Path] = (),
) -> dict[str, Any]:
    """The result of `do`, read from `record` if it has the same settings.

    The record is written last. It holds the digests of the files that `do` makes, so
    that a file that was changed later is not taken for the result.

    Args:
      record: path of the JSON file.
      wanted: settings as JSON; if the record has other settings, `do` is called again.
      do: () -> numbers.
      makes: files that `do` makes, in the directory of the record or below it.

    Returns:
      wanted and the numbers, in one dictionary.
    """
    wanted = json.loads(json.dumps(wanted))  # as it is read again: tuples are lists
    if files.exists(record):
        try:
            stored = files.read_json(record, rename=False)
            if isinstance(stored, dict) and renamed(stored.get("wanted")) == wanted:
                files.require_undamaged(record, stored)
                return wanted | renamed(stored["found"])
        except files.CorruptFileError as damage:
            progress.note(f"{damage}: computed again")
    found = do()
    values = {"wanted": wanted, "found": found}
    files.write_json(record, files.with_digests(values, record.parent, makes))
    return wanted | found
