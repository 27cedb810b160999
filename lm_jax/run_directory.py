"""A run's directory: all that sampling and evaluation need, and nothing else does.

config.json         the configuration
run.json            family, corpus, its fingerprint, package versions, checksums
tokenizer.model     SentencePiece, or both files of GPT-2
valid_windows.npy   held-out windows (N, L), uint16
checkpoints/  metrics.jsonl  training.json  events.*      from training
"""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lm_jax import files, progress
from lm_jax.config import Config, require
from lm_jax.data.dataset import Dataset
from lm_jax.data.tokenizer import Tokenizer
from lm_jax.types import Windows

TRAINING_SECTIONS = ("seed", "data", "model", "optimizer", "train")
# Where things lie and how work is cut does not change what is trained.
PLACES = ("data.cache_dir", "train.accumulation", "train.fsdp_devices")
# Where text lies does not change it, and its fingerprint is compared.
PLACES += ("data.train_files", "data.valid_files")
RECORD, CHECKPOINTS = "run.json", "checkpoints"
SEALED = ("config.json", "tokenizer.model", "valid_windows.npy")
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "sentencepiece",
    "numpy",
)


class Run(NamedTuple):
    """What a run directory holds beside its checkpoints.

    Attributes:
      path: of the directory.
      family: the name of the language model's family.
      cfg: the configuration it was trained with.
      tokenizer: of its corpus.
      valid: held-out windows.
      fingerprint: of the corpus.
    """

    path: Path
    family: str
    cfg: Config
    tokenizer: Tokenizer
    valid: Windows
    fingerprint: str

    @property
    def checkpoints(self) -> Path:
        """Where orbax keeps them."""
        return self.path / CHECKPOINTS


def create(path: Path, family: str, cfg: Config, data: Dataset) -> Run:
    """Writes the directory, or finds the same run in it.

    A directory without a checkpoint is taken over, as nothing was ever trained in it.

    Raises:
      ValueError: the directory belongs to another run.
      OSError: it cannot be read or written.
    """
    identity = {"family": family, "corpus": data.name, "fingerprint": data.fingerprint}
    if files.exists(path / RECORD):
        difference = require_free(path, family, cfg, data)
        if not difference:
            return open_run(path, family)
        progress.note(f"{difference}. It holds no checkpoint, so it is taken over")
    path.mkdir(parents=True, exist_ok=True)
    files.remove(path / RECORD)
    data.tokenizer.save(path / "tokenizer.model")
    with files.whole_file(path / "valid_windows.npy") as part, part.open("wb") as file:
        np.save(file, np.asarray(data.valid))
    files.write_json(path / "config.json", cfg.to_dict())
    values = {**identity, "versions": versions()}
    parts = [path / name for name in SEALED]
    # The last one: where it stands, the others are whole.
    files.write_json(path / RECORD, files.with_digests(values, path, parts))
    return open_run(path, family)


def require_free(path: Path, family: str, cfg: Config, data: Dataset) -> str:
    """Checks that a run may be trained in a directory, whether it is there or not.

    Returns:
      What makes it another run, which has no checkpoint and may be replaced; else "".

    Raises:
      ValueError: the directory belongs to another run, which has checkpoints.
    """
    if not files.exists(path / RECORD):
        return ""
    try:
        require_same(path, family, cfg)
        require_same_text(path, family, data)
    except ValueError as difference:
        if any(name.isdecimal() for name in files.names(path / CHECKPOINTS)):
            raise
        return str(difference)
    return ""


def open_run(path: Path, family: str) -> Run:
    """Reads what `create` wrote.

    Raises:
      ValueError: the directory holds no run, one of another family, or damaged files.
    """
    stored = _read(path, RECORD)
    try:
        files.require_undamaged(path / RECORD, stored)
    except files.CorruptFileError as damage:
        raise _with_way_out(damage) from None
    require(
        stored["family"] == family,
        f"{path} is a run of the family {stored['family']!r}, not {family!r}: "
        f"use {stored['family']}_jax, or name another --workdir",
    )
    return Run(
        path=path,
        family=family,
        cfg=read_config(path),
        tokenizer=Tokenizer.load(path / "tokenizer.model"),
        valid=np.load(path / "valid_windows.npy"),
        fingerprint=stored["fingerprint"],
    )


def read_config(path: Path) -> Config:
    """The configuration that a run was trained with.

    Runs of version 0.1.0 have `sample.rule` in place of `sample.sampler`.
    """
    values = _read(path, "config.json")
    rule = values.get("sample", {}).pop("rule", "ancestral")
    if rule != "ancestral":
        values["sample"]["sampler"] = rule
    return Config.from_dict(values)


def require_same(path: Path, family: str, cfg: Config) -> None:
    """Raises ValueError unless the run in `path` was trained as `cfg` says.

    Sampling and evaluation may be configured anew; they do not change what is trained.
    """
    stored = open_run(path, family).cfg.to_dict()
    wanted = cfg.to_dict()
    for section in TRAINING_SECTIONS:
        _require_equal(path, section, stored[section], wanted[section])


def require_same_text(path: Path, family: str, data: Dataset) -> None:
    """Raises ValueError unless the run in `path` was trained on the text of `data`."""
    require(
        open_run(path, family).fingerprint == data.fingerprint,
        f"{path} was trained on other text than corpus {data.name!r} holds now: "
        "bring that text back, or name another --workdir",
    )


def _read(path: Path, name: str) -> Any:
    """A JSON file of the run."""
    require(
        files.exists(path / RECORD),
        f"{path} is no run directory, as it holds no {RECORD}: "
        "train first, or name another --workdir",
    )
    try:
        values = files.read_json(path / name)
    except files.CorruptFileError as damage:
        raise _with_way_out(damage) from None
    if not isinstance(values, dict) or (
        name == RECORD and not {"family", "fingerprint"} <= values.keys()
    ):
        what = f"{path / name} is damaged: it is no {name} of a run"
        raise _with_way_out(files.CorruptFileError(what))
    return values


def _with_way_out(damage: files.CorruptFileError) -> files.CorruptFileError:
    what = str(damage).partition(";")[0]
    return files.CorruptFileError(
        f"{what}; take it from a copy of the run, or name another --workdir"
    )


def _require_equal(path: Path, field: str, stored: Any, wanted: Any) -> None:
    if isinstance(stored, dict):
        for name in stored:
            _require_equal(path, f"{field}.{name}", stored[name], wanted[name])
        return
    require(
        field in PLACES or stored == wanted,
        f"{path} was trained with {field}={stored!r}, not {wanted!r}: "
        "name another --workdir, or the same value",
    )


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide the numbers."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages}
