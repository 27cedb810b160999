"""Runs of this library as directories that transformers loads.

AR is a LlamaForCausalLM and needs no code of ours. MDLM comes with modeling_mdlm.py,
which transformers runs with trust_remote_code=True.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from lm_jax import files, run
from lm_jax.convert import llama, model_card, safetensors_files, tokenizer_json
from lm_jax.convert import tokenizers as foreign_tokenizers
from lm_jax.convert.safetensors_files import Tensors
from lm_jax.data.tokenizers.sentencepiece import SentencePiece
from lm_jax.run import Trained
from lm_jax.types import BOS, EOS, MASK, NUM_NON_TEXT, PAD
from lm_jax.validation import require

MODELING = "modeling_mdlm.py"
IDS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}


def export_run(
    workdir: str | Path, out: str | Path, checkpoint: int | str = "latest"
) -> Path:
    """Writes a directory for transformers: weights, configuration, tokenizer, card.

    Args:
      workdir: directory of the run.
      out: directory to make.
      checkpoint: "latest", "best" or a step; see `run.load`.

    Returns:
      The path of the directory.

    Raises:
      ValueError: the run cannot be read or has no counterpart, or `out` is not empty.
      OSError: a file cannot be read or written.
    """
    out = Path(out)
    require(not files.names(out), f"{out} is not empty: name another --out")
    model = run.load(workdir, checkpoint=checkpoint)
    require(
        model.family.name in EXPORTS,
        f"{workdir} is a run of the family {model.family.name!r}, which transformers "
        f"cannot express: choose a run of {' or '.join(EXPORTS)}",
    )
    architecture = model.run.cfg.model.architecture
    require(
        architecture == "llama",
        f"{workdir} holds a published network ({architecture}), which is not exported: "
        "use the published files",
    )
    with files.io_error_context(out), files.whole_directory(out) as part:
        EXPORTS[model.family.name](model, part)
        _write_tokenizer(model, part)
        (part / "README.md").write_text(model_card.render(model), encoding="utf-8")
    return out


def _export_ar(model: Trained, out: Path) -> None:
    cfg = model.run.cfg.model
    _write(out, llama.from_params(cfg, model.params), llama.config_of(cfg), model)
    generation = {
        **IDS,
        "suppress_tokens": list(range(NUM_NON_TEXT)),
        "max_length": cfg.length + 1,  # BOS and a window
        "do_sample": True,  # from the model itself: transformers cuts at top_k=50
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
    }
    files.write_json(out / "generation_config.json", generation)


def _export_mdlm(model: Trained, out: Path) -> None:
    own, cfg = model.run.cfg.section("mdlm"), dataclasses.asdict(model.run.cfg.model)
    for name in ("dropout", "dtype", "attention"):
        cfg.pop(name)
    config = {
        "architectures": ["Mdlm"],
        "model_type": "mdlm_jax",
        "auto_map": {
            "AutoConfig": f"{Path(MODELING).stem}.MdlmConfig",
            "AutoModel": f"{Path(MODELING).stem}.Mdlm",
        },
        **cfg,
        **{n: getattr(own, n) for n in ("time_embedding", "time_scale", "schedule")},
        "bos_at_start": own.bos_at_start,
        "num_non_text": NUM_NON_TEXT,
        "mask_token_id": MASK,
    }
    _write(out, _mdlm_tensors(model), config, model)
    shutil.copyfile(Path(__file__).with_name(MODELING), out / MODELING)


EXPORTS: dict[str, Callable[[Trained, Path], None]] = {
    "ar": _export_ar,
    "mdlm": _export_mdlm,
}


def _mdlm_tensors(model: Trained) -> Tensors:
    """The tensors of modeling_mdlm.py: the parameters with its names.

    blocks_0/qkv/kernel is blocks.0.qkv.weight, transposed; the rows that pad the
    vocabulary are left out.
    """
    tensors = {}
    flat = traverse_util.flatten_dict(model.params, sep="/")
    for path, array in flat.items():
        x = np.asarray(array, np.float32)
        name = path.removeprefix("backbone/").replace("blocks_", "blocks/")
        name = name.replace("time_embedding/Dense_", "time_embedding/")
        parent, _, leaf = name.rpartition("/")
        if leaf in ("embedding", "head"):
            name, x = f"{leaf}/weight", x[: model.run.cfg.model.vocab_size]
        elif leaf in ("kernel", "scale"):
            name, x = f"{parent}/weight", x.T
        tensors[name.replace("/", ".")] = x
    return tensors


def _write(out: Path, tensors: Tensors, config: dict[str, Any], model: Trained) -> None:
    """model.safetensors and config.json, which says which run they are."""
    safetensors_files.write(out / safetensors_files.SINGLE, tensors)
    own = {
        "family": model.family.name,
        "step": model.step,
        "fingerprint": model.run.fingerprint,
    }
    types = {"dtype": "float32", "torch_dtype": "float32"}
    files.write_json(out / "config.json", {**config, **IDS, **types, llama.OWN: own})


def _write_tokenizer(model: Trained, out: Path) -> None:
    tokenizer = model.run.tokenizer
    begins = not model.family.can_infill  # AR reads BOS, MDLM adds it by itself
    rendered = tokenizer_json.render(tokenizer, begins_with_bos=begins)
    text = json.dumps(rendered, ensure_ascii=False)
    (out / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = tokenizer_json.settings(tokenizer, model.run.cfg.model.length)
    files.write_json(out / "tokenizer_config.json", settings)
    tokenizer.save(out / foreign_tokenizers.OWN)
    if isinstance(tokenizer, SentencePiece):  # for llama.cpp
        tokenizer.save(out / "tokenizer.model")
