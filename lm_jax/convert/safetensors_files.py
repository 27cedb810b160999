"""Safetensors files, read into NumPy and written from it; no pickle is ever opened."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from lm_jax import files
from lm_jax.validation import require

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
PICKLES = (b"PK\x03\x04", b"\x80")  # how torch.save begins a file

Tensors = dict[str, ndarray]
CAUSAL_MASKS = (".attn.bias", ".attention.bias", ".masked_bias")  # in old files of GPT


def read(path: Path) -> Tensors:
    """The float tensors of a file by name, as float32, without causal masks.

    Raises:
      ValueError: the file is damaged, or a tensor is not of floating-point numbers.
      OSError: the file cannot be read.
    """
    data = path.read_bytes()
    require_no_pickle(path, data)
    library = _library("safetensors")
    try:
        found = library.deserialize(data)
    except library.SafetensorError as error:
        raise ValueError(
            f"{path} is no whole safetensors file ({error}): copy it again"
        ) from None
    tensors = {}
    for name, tensor in found:
        dtype = tensor["dtype"]
        if dtype in ("U8", "BOOL") and name.endswith(CAUSAL_MASKS):
            continue
        require(
            dtype in DTYPES,
            f"{path} holds {name} as {dtype}: give a file of {', '.join(DTYPES)}, as "
            "quantized and integer weights are not read",
        )
        array = np.frombuffer(tensor["data"], DTYPES[dtype]).reshape(tensor["shape"])
        tensors[name] = array.astype(np.float32)
    return tensors


def read_directory(directory: Path) -> tuple[Tensors, list[Path]]:
    """The tensors of model.safetensors, or of the parts in its index; and the files.

    Raises:
      ValueError: a file is missing or damaged, or a tensor stands in two parts.
      OSError: a file cannot be read.
    """
    if files.exists(directory / SINGLE):
        return read(directory / SINGLE), [directory / SINGLE]
    if not files.exists(directory / INDEX):
        pickles = [n for n in files.names(directory) if n.endswith((".bin", ".pt"))]
        raise ValueError(
            f"{directory} holds neither {SINGLE} nor {INDEX}"
            + (f", and {sorted(pickles)[0]} is a pickle" if pickles else "")
            + ": save the model with safetensors"
        )
    index = files.read_json(directory / INDEX)
    names = index.get("weight_map", {}) if isinstance(index, dict) else {}
    parts = sorted(set(names.values())) if isinstance(names, dict) else []
    require(
        bool(parts) and all(isinstance(p, str) and Path(p).name == p for p in parts),
        f"{directory / INDEX} has no weight_map of files beside it: copy it again",
    )
    tensors: Tensors = {}
    for part in parts:
        require(
            files.exists(directory / part),
            f"{directory / part} is missing, and {INDEX} names it: copy it as well",
        )
        found = read(directory / part)
        for name in found:
            require(
                names.get(name) == part,
                f"{directory / part} holds {name}, which {INDEX} does not say: copy "
                "the directory again",
            )
        tensors |= found
    for name in names:
        require(
            name in tensors,
            f"{directory / names[name]} lacks {name}, which {INDEX} promises: copy it "
            "again",
        )
    return tensors, [directory / part for part in parts]


def write(path: Path, tensors: Mapping[str, ndarray]) -> None:
    """Writes tensors as transformers expects them.

    Raises:
      ValueError: the package safetensors is missing.
    """
    whole = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    save = _library("safetensors.numpy").save
    path.write_bytes(save(whole, metadata={"format": "pt"}))


def require_no_pickle(path: Path, data: bytes) -> None:
    """Raises ValueError if the content of a file begins as a pickle does."""
    require(
        not data.startswith(PICKLES),
        f"{path} is a pickle of PyTorch, which may run any code when it is opened: "
        "save the weights with safetensors",
    )


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
      ValueError: the file is no JSON object.
      OSError: the file cannot be read.
    """
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): copy it again") from None
    require(isinstance(values, dict), f"{path} is no JSON object: copy it again")
    return values


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(
            "safetensors files need the package safetensors: pip install -e '.[hf]'"
        ) from None
