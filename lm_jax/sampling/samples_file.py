"""A file of samples that is written as they come, and goes on where it was left.

Until it is whole it is called <name>.part, and <name>.part.json says what decides its
lines; so a file called <name> is always whole, and `kill -9` costs one chunk at most.
"""

import json
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from lm_jax.sampling.text import Sample, parse_sample, to_json


class SamplesFile:
    """Appends samples to a file, one a line.

    Attributes:
      path: where the whole file will be.
      found: samples that an earlier call has left, in their order.
    """

    def __init__(
        self, path: str | os.PathLike, identity: dict[str, Any], num_samples: int
    ):
        """Goes on with a half-written file if it was begun with the same identity.

        Args:
          path: of the whole file.
          identity: all that decides the lines, as plain JSON values; a half-written
            file of another identity is begun anew.
          num_samples: lines that are wanted; what an earlier call has left beyond
            them is cut off.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part = self.path.with_name(self.path.name + ".part")
        self._head = self.path.with_name(self.path.name + ".part.json")
        head = json.dumps(identity, sort_keys=True)
        self.found: list[Sample] = []
        if self._head.exists() and self._head.read_text(encoding="utf-8") == head:
            self.found = self._read_part(num_samples)
        else:  # in this order, so that no head ever stands beside another one's lines
            self._head.unlink(missing_ok=True)
            self._part.unlink(missing_ok=True)
            self._head.write_text(head, encoding="utf-8")
        self._file = self._part.open("a", encoding="utf-8", newline="\n")

    def append(self, samples: Iterable[Sample]) -> None:
        """Adds the lines, and hands them to the operating system at once."""
        self._file.writelines(to_json(sample) + "\n" for sample in samples)
        self._file.flush()

    def finish(self) -> None:
        """The file is whole: it takes its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._part, self.path)
        self._head.unlink(missing_ok=True)

    def close(self) -> None:
        """Leaves the file as it is, to be gone on with."""
        self._file.close()

    def __enter__(self) -> "SamplesFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.close()

    def _read_part(self, num_samples: int) -> list[Sample]:
        """The whole lines; a torn one and what follows it are cut off."""
        if not self._part.exists():
            return []
        samples, size = [], 0
        with self._part.open("rb") as file:
            for line in islice(file, num_samples):
                try:
                    sample = parse_sample(line.decode("utf-8"))
                except (ValueError, TypeError):
                    break
                is_next = sample.sampler.get("row") == len(samples)
                if not (line.endswith(b"\n") and is_next):
                    break
                samples.append(sample)
                size += len(line)
        os.truncate(self._part, size)
        return samples
