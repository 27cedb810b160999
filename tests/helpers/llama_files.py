"""Small directories of transformers, and runs of this library without training."""

import json
from typing import Any

import jax
import numpy as np
from hard_texts import TEXTS
from tiny_configs import FAMILIES

from lm_jax import checkpoint, run
from lm_jax.config import Config, DataConfig, ModelConfig
from lm_jax.convert import llama, safetensors_files
from lm_jax.convert.importing import CORPUS
from lm_jax.data.dataset import Dataset
from lm_jax.data.tokenizers.sentencepiece import parse, train_tokenizer
from lm_jax.training.train_step import TrainState


def llama_config(**options):
    """A small Llama as config.json has it."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 300,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return config | options


def random_tensors(directory, config):
    file = directory / "config.json"
    shapes = llama.shapes(llama.from_config(file, config, None))
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_directory(directory, config=None, tensors=None):
    """config.json, model.safetensors and a tokenizer.model of 300 pieces."""
    directory.mkdir(parents=True, exist_ok=True)
    config = config or llama_config()
    (directory / "config.json").write_text(json.dumps(config))
    tensors = random_tensors(directory, config) if tensors is None else tensors
    safetensors_files.write(directory / "model.safetensors", tensors)
    (directory / "tokenizer.model").write_bytes(published_tokenizer())
    return tensors


def published_tokenizer(**options):
    """A SentencePiece model as Llama's: <unk>, <s>, </s>, bytes, and a space first."""
    ours = parse(train_tokenizer(TEXTS * 3, 302).data)
    model = parse()
    for name, kind in (("<unk>", 2), ("<s>", 3), ("</s>", 3)):
        model.pieces.add(piece=name, score=0.0, type=kind)
    for piece in list(ours.pieces)[5:]:
        model.pieces.add().CopyFrom(piece)
    model.trainer_spec.model_type = 2
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    for name, value in options.items():
        setattr(model.normalizer_spec, name, value)
    return model.SerializeToString()


def own_run(workdir, family="ar", families=None, **model):
    """A run of the library with random parameters, of step 7."""
    tokenizer = train_tokenizer(TEXTS * 3, 310)
    sizes: dict[str, Any] = {"length": 32, "width": 16, "num_layers": 2, "num_heads": 2}
    sizes |= {"ffn_width": 24, "vocab_size": tokenizer.vocab_size}
    cfg = Config(
        data=DataConfig(corpus=CORPUS),
        model=ModelConfig(**sizes | model),
        families=families or {},
    ).of_family(family)
    lm = FAMILIES[family].make(cfg)
    rng = np.random.default_rng(0)  # nothing is compiled, and nothing is zero
    params = jax.tree.map(
        lambda x: jax.numpy.asarray(rng.normal(0, x.shape[-1] ** -0.5, x.shape), "f4"),
        jax.eval_shape(lm.init, jax.random.key(0)),
    )
    none = np.zeros((0, 32), np.uint16)
    data = Dataset("toy", tokenizer, none, none, [], [], "0")
    run.create(workdir, family, cfg, data)
    state = TrainState(jax.numpy.int32(7), params, None)
    checkpoint.save_alone(workdir / checkpoint.DIRECTORY, state)
    return run.load(workdir)
