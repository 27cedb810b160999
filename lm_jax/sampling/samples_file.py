"""JSONL file of samples that is written batch by batch and can be continued.

An incomplete file is called <name>.part, and <name>.part.json holds the identity of its
samples. So a file called <name> is always complete, and `kill -9` loses at most one
batch.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from lm_jax import files
from lm_jax.old_names import renamed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample, and all that is needed to draw it again.

    Attributes:
      text: text before the first EOS of the window.
      tokens: tokens of the whole window.
      seed: seed of its random key.
      sampler: family, settings, row and all else that determines the sample.
      finished: whether the window has an EOS.
      nfe: number of network calls that this window alone would need.
      unmask_step: step at which each token was unmasked, -1 if it was given; None
        without a trace.
      trace: changes in order, as [step, position, token]; the token MASK is a position
        that was remasked. None without a trace.
      line, prompt: number, from 1, and text of the line of a file of prompts or
        infills; None without such a file.
    """

    text: str
    tokens: list[int]
    seed: int
    sampler: dict[str, Any]
    finished: bool
    nfe: int = 0
    unmask_step: list[int] | None = None
    trace: list[list[int]] | None = None
    line: int | None = None
    prompt: str | None = None


def to_json(sample: Sample) -> str:
    """One line of JSON, without the fields that are None."""
    fields = {name: value for name, value in vars(sample).items() if value is not None}
    return json.dumps(fields, ensure_ascii=False)


def parse_sample(line: str) -> Sample:
    """The inverse of `to_json`. Raises ValueError or TypeError for any other line."""
    return Sample(**renamed(json.loads(line)))


def read_samples(path: str | os.PathLike) -> list[Sample]:
    """The samples of a file.

    Raises:
      ValueError: a line is no sample; the message has its number.
    """
    samples = []
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                samples.append(parse_sample(line))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {path} is no sample ({error}): delete the file "
                    "and sample again"
                ) from None
    return samples


class SampleWriter:
    """Appends samples to a file, one on each line.

    Attributes:
      path: path of the complete file.
      found: samples of an earlier call, in their order.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        identity: dict[str, Any],
        num_samples: int,
        *,
        overwrite: bool = False,
    ):
        """Opens a file, and continues it if it has the same identity.

        Args:
          path: path of the complete file.
          identity: all values that determine the samples, as JSON: "seed", "trace",
            "sampler" and more. An incomplete file of another identity is discarded.
          num_samples: number of samples of the complete file; an incomplete file is
            truncated to it.
          overwrite: whether to replace a complete file that holds other samples.

        Raises:
          ValueError: another process writes the file; the path is no file; or a
            complete file holds other samples and `overwrite` is False.
          OSError: the file cannot be read or written.
        """
        self.path = Path(path)
        if files.exists(self.path) and not self.path.is_file():
            raise ValueError(f"{self.path} is no file: name another --out")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part = self.path.with_name(self.path.name + ".part")
        self._head = self.path.with_name(self.path.name + ".part.json")
        self._file = self._locked()
        try:
            whole = self._whole_samples(identity, num_samples, overwrite)
            self._is_whole = len(whole) == num_samples
            self.found = whole if self._is_whole else self._begin(identity, num_samples)
            if len(self.found) < len(whole):
                self.append(whole[len(self.found) :])
                self.found = whole
        except BaseException:
            with self._file, contextlib.suppress(OSError):
                if not files.exists(self._head):
                    self._part.unlink()
            raise

    def append(self, samples: Iterable[Sample]) -> None:
        """Appends the samples and flushes them to the operating system."""
        self._file.writelines(to_json(sample) + "\n" for sample in samples)
        self._file.flush()

    def finish(self) -> None:
        """Renames the complete file to its final name."""
        with self._file:  # it holds the lock
            self._file.flush()
            os.fsync(self._file.fileno())
            if self._is_whole:  # it was complete before
                self._part.unlink()
            else:
                os.replace(self._part, self.path)
            files.remove(self._head)

    def close(self) -> None:
        """Leaves the file as it is, so that a later call can continue it."""
        self._file.close()

    def __enter__(self) -> "SampleWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.close()

    def _locked(self) -> Any:
        """Opens and locks the incomplete file."""
        while True:
            file = self._part.open("a", encoding="utf-8", newline="\n")
            if not files.lock(file):
                file.close()
                raise ValueError(
                    f"{self.path} is being written by another process: wait for its "
                    "end, or write to another file"
                )
            opened = os.fstat(file.fileno())
            if files.exists(self._part) and os.path.samestat(opened, self._part.stat()):
                return file
            file.close()  # another process has just renamed it

    def _whole_samples(
        self, identity: dict[str, Any], num_samples: int, overwrite: bool
    ) -> list[Sample]:
        """Samples of a complete file with this identity; [] if there is no file."""
        if overwrite or not files.exists(self.path):
            return []
        way_out = "name another --out, or pass --overwrite to replace it"
        try:
            samples = read_samples(self.path)
        except ValueError:
            raise ValueError(
                f"{self.path} holds something else than samples: {way_out}"
            ) from None
        wanted = {name: identity[name] for name in ("seed", "trace", "sampler")}
        for row, sample in enumerate(samples):
            if sample.sampler.get("row") != row:
                raise ValueError(
                    f"{self.path} is damaged: line {row + 1} is not sample {row}; "
                    f"{way_out}"
                )
            if (found := _identity(sample)) != wanted:
                names = [*wanted["sampler"], *found["sampler"], "seed", "trace"]
                first = next(
                    name
                    for name in dict.fromkeys(names)
                    if _value(found, name) != _value(wanted, name)
                )
                difference = (
                    f"of other {first.removesuffix('_hash')}"
                    if first.endswith("_hash")
                    else f"whose {first} is {_value(found, first)!r} and not "
                    f"{_value(wanted, first)!r}"
                )
                raise ValueError(
                    f"{self.path} holds other samples, {difference}: {way_out}"
                )
        if len(samples) > num_samples:
            raise ValueError(
                f"{self.path} holds {len(samples)} samples, more than the "
                f"{num_samples} requested: {way_out}"
            )
        return samples

    def _begin(self, identity: dict[str, Any], num_samples: int) -> list[Sample]:
        """Samples of an incomplete file; a file of another identity is emptied."""
        head = json.dumps(identity, sort_keys=True)
        if files.exists(self._head) and self._head.read_text(encoding="utf-8") == head:
            return self._read_part(num_samples)
        # In this order, so that no identity is ever beside samples of another one.
        files.remove(self._head)
        os.truncate(self._part, 0)
        with files.whole_file(self._head) as part:
            part.write_text(head, encoding="utf-8")
        return []

    def _read_part(self, num_samples: int) -> list[Sample]:
        """Complete lines; the file is truncated at the first one that is not."""
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


def _identity(sample: Sample) -> dict[str, Any]:
    """The identity that a sample records, without its row."""
    settings = {name: x for name, x in sample.sampler.items() if name != "row"}
    is_traced = sample.trace is not None
    return {"seed": sample.seed, "trace": is_traced, "sampler": settings}


def _value(identity: dict[str, Any], name: str) -> Any:
    return (identity if name in ("seed", "trace") else identity["sampler"]).get(name)
