"""Published networks that are not trained here, as run directories."""

import json

import numpy as np
import pytest
from published_networks import GPT2, MDLM, dit_tensors, gpt2_tensors

from lm_jax import run
from lm_jax.config import EvaluateConfig, SampleConfig
from lm_jax.convert import export_run, import_run
from lm_jax.types import EOS

safetensors_numpy = pytest.importorskip(
    "safetensors.numpy", reason="needs safetensors (pip install -e '.[hf]')"
)
tokenizers = pytest.importorskip(
    "tokenizers", reason="needs tokenizers (pip install -e '.[gpt2]')"
)
TEXT = "Tom saw.\n<|endoftext|>\nA dog ran.\n<|endoftext|>\n"


def write(directory, tensors, settings, num_ids):
    """A directory of a network whose vocabulary is the bytes and <|endoftext|>."""
    rng = np.random.default_rng(0)
    wide = {}
    for name, x in tensors.items():
        is_table = name.endswith(("wte.weight", "vocab_embed.embedding"))
        if is_table or "output_layer.linear" in name:
            x = 0.3 * rng.normal(size=(num_ids, *x.shape[1:])).astype(np.float32)
        wide[name] = x
    directory.mkdir()
    safetensors_numpy.save_file(wide, directory / "model.safetensors")
    sizes = {n: num_ids - 1 for n in settings if n in ("bos_token_id", "eos_token_id")}
    values = settings | {"vocab_size": num_ids} | sizes
    (directory / "config.json").write_text(json.dumps(values))
    symbols = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: i for i, symbol in enumerate([*symbols, "<|endoftext|>"])}
    (directory / "vocab.json").write_text(json.dumps(vocab))
    (directory / "merges.txt").write_text("#version: 0.2\n")


@pytest.mark.parametrize(
    "format, family, tensors, settings, num_ids",
    [
        ("gpt", "ar", gpt2_tensors(), GPT2, 257),
        ("dit", "mdlm", dit_tensors(), MDLM, 258),  # the last id is the mask
    ],
    ids=["gpt", "dit"],
)
def test_a_network_is_scored_and_sampled_by_the_same_commands(
    format, family, tensors, settings, num_ids, tmp_path
):
    """Like any run: every byte is counted, texts come out; training is refused."""
    published, workdir, text = (tmp_path / name for name in ("net", "run", "valid.txt"))
    if format == "gpt":  # old files hold the causal mask
        tensors = tensors | {"h.0.attn.bias": np.ones((1, 1, 20, 20), np.uint8)}
    write(published, tensors, settings, num_ids)
    text.write_text(TEXT)
    import_run(format, published, workdir, text_file=str(text), length=12)
    model = run.load(workdir)
    assert model.family.name == family and model.step == 0
    assert model.run.tokenizer.vocab_size == 4 + 257
    found = run.evaluate(model, EvaluateConfig(num_draws=4, detail_windows=0))
    assert found["num_bytes"] == len("Tom saw.") + len("A dog ran.") + 2
    assert 0.0 < found["nats_per_token"] < 30.0
    samples, _ = run.sample(model, SampleConfig(num_samples=2, batch_size=2))
    assert len(samples) == 2 and all(max(s.tokens) < 4 + 257 for s in samples)
    assert all(min(s.tokens) >= EOS for s in samples)
    with pytest.raises(ValueError, match="does not train"):
        run.train(model.family, model.run.cfg, tmp_path / "new")
    with pytest.raises(ValueError, match="is not exported: use the published files"):
        export_run(workdir, tmp_path / "out")
    source = json.loads((workdir / "run.json").read_text())["source"]
    assert source["format"] == format and len(source["files"]) == 4


def test_the_tokenizer_must_be_that_of_the_network(tmp_path):
    """A vocabulary of another size, and an id of the end, are refused; nothing is
    written."""
    write(tmp_path / "net", gpt2_tensors(), GPT2, 257)
    vocab = json.loads((tmp_path / "net" / "vocab.json").read_text())
    (tmp_path / "net" / "vocab.json").write_text(json.dumps(vocab | {"more": 257}))
    with pytest.raises(ValueError, match="give its own tokenizer"):
        import_run("gpt", tmp_path / "net", tmp_path / "run")
    with pytest.raises(ValueError, match="--eos_id=3: the id is known"):
        import_run("gpt", tmp_path / "net", tmp_path / "run", eos_id=3)
    assert not (tmp_path / "run").exists()
