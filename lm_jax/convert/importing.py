"""Published models as run directories."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lm_jax import checkpoint as checkpoint_module
from lm_jax import files, run
from lm_jax.config import Config, DataConfig, ModelConfig
from lm_jax.convert import dit, gpt, llama, llama2c, safetensors_files, tokenizers
from lm_jax.data import cache, text_files
from lm_jax.data import windows as packing
from lm_jax.data.dataset import Dataset
from lm_jax.data.tokenizers import Tokenizer
from lm_jax.data.tokenizers.gpt2 import Gpt2
from lm_jax.language_model import load_family
from lm_jax.training.train_step import TrainState
from lm_jax.types import NUM_NON_TEXT, Params
from lm_jax.validation import require

CORPUS = "imported"  # the corpus of a run whose training text is not known


class Foreign(NamedTuple):
    """A published model in the form of this library.

    Attributes:
      family: name of the family that it is a model of.
      model: configuration of the backbone.
      params: parameters.
      tokenizer: tokenizer with our ids.
      paths: the files that were read.
      own: the family's own section of the configuration, by its name.
    """

    family: str
    model: ModelConfig
    params: Params
    tokenizer: Tokenizer
    paths: list[Path]
    own: Mapping[str, Any] = MappingProxyType({})


def read_llama2c(
    checkpoint: Path,
    tokenizer_files: Sequence[Path] = (),
    length: int = 0,
    eos: int | None = None,
) -> Foreign:
    """Reads a .bin file of llama2.c, of version 1 or the legacy one.

    Args:
      checkpoint: the file.
      tokenizer_files: tokenizer.bin, tokenizer.model, or vocab.json and merges.txt;
        default: those beside the checkpoint.
      length: tokens of a window; 0 is the largest number of positions.
      eos: id that ends a text; default: 1, which also begins it.

    Raises:
      ValueError: a file is damaged, or cannot be mapped.
      OSError: a file cannot be read.
    """
    _require_there(checkpoint)
    require(
        checkpoint.is_file(),
        f"--checkpoint={checkpoint} is no file: name the .bin file of llama2.c, or "
        "pass --from=llama",
    )
    found, tensors = llama2c.read(checkpoint)
    found = found if eos is None else found._replace(eos=eos)
    return _foreign(checkpoint, found, tensors, [checkpoint], tokenizer_files, length)


def read_llama(
    checkpoint: Path,
    tokenizer_files: Sequence[Path] = (),
    length: int = 0,
    eos: int | None = None,
) -> Foreign:
    """Reads a directory of a LlamaForCausalLM with config.json and safetensors.

    Args:
      checkpoint: the directory.
      tokenizer_files, length: see `read_llama2c`.
      eos: id that ends a text; default: that of config.json.

    Raises:
      ValueError: a file is damaged, or cannot be mapped.
      OSError: a file cannot be read.
    """
    _require_there(checkpoint)
    require(
        files.exists(checkpoint / "config.json"),
        f"--checkpoint={checkpoint} holds no config.json: name the directory of a "
        "LlamaForCausalLM, or pass --from=llama2c",
    )
    found, tensors, paths = llama.read(checkpoint, eos)
    return _foreign(checkpoint, found, tensors, paths, tokenizer_files, length)


def read_network(
    family: str,
    from_tensors: Callable[..., tuple[dict[str, Any], Params]],
    checkpoint: Path,
    tokenizer_files: Sequence[Path] = (),
    length: int = 0,
    eos: int | None = None,
) -> Foreign:
    """Reads a published network that is evaluated and sampled, and not trained.

    Args:
      family: the family that it is a model of.
      from_tensors: of `convert.dit` or `convert.gpt`.
      checkpoint: a safetensors file with config.json beside it, or their directory.
      tokenizer_files: GPT-2's vocab.json and merges.txt; default: those beside it.
      length: see `read_llama2c`.
      eos: must be None: `<|endoftext|>` is the last id of GPT-2's vocabulary.

    Raises:
      ValueError: a file is damaged, or cannot be mapped.
      OSError: a file cannot be read.
    """
    _require_there(checkpoint)
    require(
        eos is None, f"--eos_id={eos}: the id is known for this format, leave it out"
    )
    directory = checkpoint if checkpoint.is_dir() else checkpoint.parent
    config = directory / "config.json"
    require(
        files.exists(config),
        f"{directory} holds no config.json: put it beside the file",
    )
    settings = safetensors_files.read_object(config)
    if checkpoint.is_dir():
        tensors, parts = safetensors_files.read_directory(checkpoint)
    else:
        tensors, parts = safetensors_files.read(checkpoint), [checkpoint]
    sections, params = from_tensors(tensors, settings, length)
    model = ModelConfig(**sections.pop("model"))
    vocabulary = list(tokenizer_files) or tokenizers.find(checkpoint)
    require(
        len(vocabulary) == 2,
        f"{vocabulary[0]} is no vocabulary of GPT-2: pass "
        "--tokenizer=vocab.json,merges.txt",
    )
    end = model.vocab_size - NUM_NON_TEXT - 1
    tokenizer = Gpt2.read(*vocabulary, end=end)
    require(
        tokenizer.vocab_size == model.vocab_size,
        f"{vocabulary[0]} has {tokenizer.vocab_size - NUM_NON_TEXT:,} ids, and the "
        f"model has {model.vocab_size - NUM_NON_TEXT:,}: give its own tokenizer",
    )
    paths = [config, *parts, *vocabulary]
    return Foreign(family, model, params, tokenizer, paths, sections)


FORMATS: dict[str, Callable[..., Foreign]] = {
    "llama2c": read_llama2c,
    "llama": read_llama,
    "dit": partial(read_network, "mdlm", dit.from_tensors),
    "gpt": partial(read_network, "ar", gpt.from_tensors),
}


def _require_there(path: Path) -> None:
    require(
        files.exists(path),
        f"--checkpoint={path} does not exist: name the published file or directory",
    )


def _foreign(
    path: Path,
    found: llama.Llama,
    tensors: Any,
    paths: list[Path],
    tokenizer_files: Sequence[Path],
    length: int,
) -> Foreign:
    llama.require_usable(path, found)
    found = llama.with_length(found, length)
    tokenizer_files = list(tokenizer_files) or tokenizers.find(path)
    tokenizer = tokenizers.read(tokenizer_files, found)
    model, params = llama.to_params(path, found, tensors)
    return Foreign("ar", model, params, tokenizer, [*paths, *tokenizer_files])


def import_run(
    format: str,
    checkpoint: str | Path,
    workdir: str | Path,
    *,
    tokenizer: Sequence[str | Path] = (),
    text_file: str = "",
    length: int = 0,
    eos_id: int | None = None,
) -> run.Run:
    """Writes a run directory that holds a published model.

    Everything is read and checked before the directory is made.

    Args:
      format: "llama2c" (a .bin file), "llama" (a directory of transformers), "dit" (of
        MDLM or SEDD) or "gpt" (GPT-2, GPT-Neo).
      checkpoint: that file, or directory.
      workdir: directory to make.
      tokenizer: files of the tokenizer; default: those beside the checkpoint.
      text_file: text files, separated by commas, for the held-out windows of the run;
        default: none.
      length: tokens of a window; 0 is the largest number of positions.
      eos_id: id that ends a text; default: what the checkpoint says.

    Raises:
      ValueError: the model cannot be mapped, a file is damaged, or the directory is
        not empty.
      OSError: a file cannot be read or written.
    """
    workdir = Path(workdir)
    require(
        format in FORMATS,
        f"--from={format} is unknown: choose one of {', '.join(FORMATS)}",
    )
    require(
        not files.names(workdir),
        f"{workdir} is not empty: name another --workdir",
    )
    texts = text_files.paths(text_file, "--text_file")
    given = [Path(path).expanduser() for path in tokenizer]
    for path in given:
        require(path.is_file(), f"--tokenizer={path} is no file: correct it")
    foreign = FORMATS[format](Path(checkpoint).expanduser(), given, length, eos_id)
    family = load_family(foreign.family)
    cfg = Config(data=DataConfig(corpus=CORPUS), model=foreign.model)
    cfg = Config.from_dict(cfg.to_dict() | dict(foreign.own)).of_family(family.name)
    source = {
        "format": format,
        "files": {str(path): files.sha256(path) for path in foreign.paths},
    }
    data = _held_out(foreign, source, texts)
    with files.io_error_context(workdir), files.whole_directory(workdir) as part:
        run.create(part, family.name, cfg, data, source)
        params = jax.tree.map(jnp.asarray, foreign.params)
        state = TrainState(jnp.int32(0), params, None)
        checkpoint_module.save_alone(part / checkpoint_module.DIRECTORY, state)
    return run.open_run(workdir, family.name)


def _held_out(
    foreign: Foreign, source: dict[str, Any], texts: Sequence[Path]
) -> Dataset:
    """The held-out windows and the tokenizer, as a dataset without training text."""
    length = foreign.model.length
    windows = np.zeros((0, length), np.uint16)
    if texts:
        documents = list(chain.from_iterable(map(text_files.documents, texts)))
        encoded = foreign.tokenizer.encode(documents)
        windows = packing.pack_all(encoded, length, "document").windows
    return Dataset(
        name=CORPUS,
        tokenizer=foreign.tokenizer,
        train=windows[:0],
        valid=windows,
        train_documents=[],
        valid_documents=[],
        fingerprint=cache.content_key(source, *map(files.sha256, texts)),
    )
