"""Directories of transformers: what is read, what is written, and the way back."""

import json
import math

import jax
import llama2c
import numpy as np
import pytest
from hard_texts import HARD_TEXTS, TEXTS
from llama_files import (
    llama_config,
    own_run,
    published_tokenizer,
    write_directory,
)

from lm_jax import run
from lm_jax.convert import export_run, import_run, safetensors_files
from lm_jax.data.tokenizers.gpt2 import Gpt2
from lm_jax.data.tokenizers.sentencepiece import SentencePiece, parse, train_tokenizer
from lm_jax.types import BOS, EOS, MASK, PAD

safetensors = pytest.importorskip("safetensors", reason="needs the extra 'hf'")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(directory, tensors, model) of a small Llama with grouped heads and a head."""
    directory = tmp_path_factory.mktemp("published") / "llama"
    tensors = write_directory(directory)
    import_run("llama", directory, directory.parent / "run")
    return directory, tensors, run.load(directory.parent / "run")


def test_configuration_follows_the_directory(published):
    """Epsilon, base of RoPE, an untied head, and ids after the five special ones."""
    cfg = published[2].run.cfg.model
    assert (cfg.norm_epsilon, cfg.rope_base, cfg.tied_head) == (1e-5, 5000.0, False)
    assert (cfg.vocab_size, cfg.length) == (304, 32)


def test_heads_of_a_group_share_keys_and_values(published):
    """Key and value heads are repeated: 0, 0, 1, 1."""
    _, tensors, model = published
    kernel = np.asarray(model.params["backbone"]["blocks_1"]["qkv"]["kernel"])
    q, k, v = np.split(kernel.T, 3)
    prefix = "model.layers.1.self_attn"
    np.testing.assert_array_equal(q, tensors[f"{prefix}.q_proj.weight"])
    for ours, name in ((k, "k_proj"), (v, "v_proj")):
        theirs = tensors[f"{prefix}.{name}.weight"].reshape(2, 4, 16)
        np.testing.assert_array_equal(ours.reshape(4, 4, 16), theirs[[0, 0, 1, 1]])


def test_ids_that_begin_and_end_a_text_have_their_rows(published):
    """BOS reads the row of <s> and EOS that of </s>; heads likewise, but for BOS."""
    _, tensors, model = published
    backbone = jax.tree.map(np.asarray, model.params["backbone"])
    theirs = tensors["model.embed_tokens.weight"] / 4  # sqrt(16)
    np.testing.assert_array_equal(backbone["embedding"][[BOS, EOS]], theirs[[1, 2]])
    np.testing.assert_array_equal(
        backbone["embedding"][5:304], theirs[[0, 1, *range(3, 300)]]
    )
    head = tensors["lm_head.weight"]
    np.testing.assert_array_equal(backbone["head"][EOS], head[2])
    np.testing.assert_array_equal(backbone["head"][5:304], head[[0, 1, *range(3, 300)]])
    assert not np.any(backbone["head"][[PAD, BOS, MASK]])


def test_a_published_sentencepiece_model_loses_no_text(published):
    """Its pieces, in their order, and every text comes back."""
    tokenizer = published[2].run.tokenizer
    theirs = parse(published_tokenizer())
    for text in [*TEXTS, *HARD_TEXTS]:
        (ids,) = tokenizer.encode([text])
        assert tokenizer.decode(ids) == text
        assert "".join(tokenizer.pieces(ids)) == text
    (ids,) = tokenizer.encode(["One day"])
    assert "".join(theirs.pieces[i - 4].piece for i in ids) == "\u2581One\u2581day"
    assert tokenizer.num_bytes[[5, 6]].tolist() == [0, 0]  # <unk>, <s>


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_read_as_they_are(tmp_path, dtype):
    """F16 and BF16 tensors become float32, each number unchanged."""
    x = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
    narrow = x.astype(jax.numpy.dtype(dtype))
    safetensors_files.write(tmp_path / "x.safetensors", {"x": narrow})
    found = safetensors_files.read(tmp_path / "x.safetensors")["x"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, narrow.astype(np.float32))


def test_parts_with_an_index_are_one_model(published, tmp_path):
    """The same parameters as from a single file; a part that is missing is named."""
    directory, tensors, model = published
    names = sorted(tensors)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for name in ("config.json", "tokenizer.model"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    for part, kept in parts.items():
        safetensors_files.write(tmp_path / part, {n: tensors[n] for n in kept})
    index = {"weight_map": {n: part for part, kept in parts.items() for n in kept}}
    (tmp_path / safetensors_files.INDEX).write_text(json.dumps(index))
    import_run("llama", tmp_path, tmp_path / "run")
    jax.tree.map(
        np.testing.assert_array_equal, run.load(tmp_path / "run").params, model.params
    )
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"b.safetensors is missing"):
        import_run("llama", tmp_path, tmp_path / "other")


def test_a_tied_head_is_the_embedding(tmp_path):
    """head = embedding of the file, so sqrt(D) times ours: it is untied here."""
    tensors = write_directory(tmp_path, llama_config(tie_word_embeddings=True))
    import_run("llama", tmp_path, tmp_path / "run")
    backbone = run.load(tmp_path / "run").params["backbone"]
    np.testing.assert_array_equal(
        np.asarray(backbone["head"])[EOS], tensors["model.embed_tokens.weight"][2]
    )


def test_gpt2_files_are_read_with_an_id_that_ends(tmp_path):
    """The id of <|endoftext|> is EOS, those after it move down, and no text is lost."""
    tokenizers = pytest.importorskip("tokenizers")
    reference = tokenizers.ByteLevelBPETokenizer()
    reference.train_from_iterator(TEXTS * 5, vocab_size=299, show_progress=False)
    reference.save_model(str(tmp_path))
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    vocab = {symbol: i + 1 for symbol, i in vocab.items()} | {"<|endoftext|>": 0}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    write_directory(tmp_path, llama_config(bos_token_id=0, eos_token_id=0))
    (tmp_path / "tokenizer.model").unlink()
    import_run("llama", tmp_path, tmp_path / "run")
    tokenizer = run.open_run(tmp_path / "run", "ar").tokenizer
    assert isinstance(tokenizer, Gpt2) and tokenizer.vocab_size == 304
    for text in [*TEXTS, *HARD_TEXTS]:
        (ids,) = tokenizer.encode([text])
        assert ids.tolist() == [i + 5 for i in reference.encode(text).ids]
        assert tokenizer.decode(ids) == text
        assert tokenizer.num_bytes[ids].sum() == len(text.encode())
    out = export_run(tmp_path / "run", tmp_path / "out")
    exported = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    (ids,) = tokenizer.encode(TEXTS[:1])
    assert exported.encode(TEXTS[0]).ids == [BOS, *ids]
    assert exported.decode(ids.tolist()) == TEXTS[0]
    import_run("llama", out, tmp_path / "again")
    again = run.open_run(tmp_path / "again", "ar").tokenizer
    assert again.data == tokenizer.data


# The way back.


@pytest.mark.parametrize(
    "model", [{}, {"tied_head": False}, {"width": 24}, {"rope_base": 500.0}]
)
def test_export_then_import_gives_the_same_parameters(tmp_path, model):
    """Bit for bit, ids and tokenizer too; rows that pad the vocabulary have no use."""
    ours = own_run(tmp_path / "run", **model)
    export_run(tmp_path / "run", tmp_path / "out")
    import_run("llama", tmp_path / "out", tmp_path / "again")
    again = run.load(tmp_path / "again")
    assert again.run.cfg.model == ours.run.cfg.model
    assert again.run.tokenizer.data == ours.run.tokenizer.data
    there, back = (
        jax.tree.map(np.asarray, m.params["backbone"]) for m in (ours, again)
    )
    for name in ("embedding", "head"):
        for tree in (there, back):
            tree |= {name: tree[name][:310]} if name in tree else {}
    jax.tree.map(np.testing.assert_array_equal, there, back)


def test_an_imported_run_comes_back_too(published, tmp_path):
    """Export and import of a published model: parameters and tokenizer are equal."""
    model = published[2]
    export_run(model.run.path, tmp_path / "out")
    import_run("llama", tmp_path / "out", tmp_path / "again")
    again = run.load(tmp_path / "again")
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
    assert isinstance(again.run.tokenizer, SentencePiece)
    assert again.run.tokenizer.data == model.run.tokenizer.data


def test_exported_files_name_sizes_and_ids(tmp_path):
    """config.json, generation_config.json and the card."""
    own_run(tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["vocab_size"], config["tie_word_embeddings"]) == (310, False)
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation["suppress_tokens"] == [PAD, BOS, 2, MASK]
    assert generation["eos_token_id"] == EOS
    tensors = safetensors_files.read(tmp_path / "out" / "model.safetensors")
    head, embedding = tensors["lm_head.weight"], tensors["model.embed_tokens.weight"]
    np.testing.assert_array_equal(embedding, np.float32(math.sqrt(16)) * head)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| checkpoint | step 7 |" in card and "python -m ar_jax.sample" in card
    with pytest.raises(ValueError, match="name another --out"):
        export_run(tmp_path / "run", tmp_path / "out")


# What is refused.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"architectures": ["MistralForCausalLM"]}, "Mistral.*only LlamaForCausalLM"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "llama3.*rope_scaling"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"head_dim": 8}, "head_dim=8"),
        ({"num_key_value_heads": 3}, "do not divide"),
        ({"vocab_size": 65_533}, r"65,537 ids here.*16-bit"),
        ({"vocab_size": -1}, "vocab_size=-1"),
        ({"hidden_size": "16"}, "hidden_size='16'"),
        ({"eos_token_id": [2, 3]}, r"eos_token_id=\[2, 3\].*--eos_id"),
        ({"eos_token_id": 400}, "beyond its vocabulary of 300: pass --eos_id"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps=0.0"),
        ({"intermediate_size": 25}, r"shape \(24, 16\).*needs \(25, 16\)"),
        ({"num_hidden_layers": 3}, "lacks model.layers.2"),
        ({"num_hidden_layers": 1}, "model.layers.1.*no Llama"),
    ],
)
def test_what_cannot_be_mapped_is_named(published, tmp_path, options, message):
    """One sentence, and nothing is written."""
    _, tensors, _ = published
    write_directory(tmp_path / "llama", llama_config(**options), tensors)
    with pytest.raises(ValueError, match=message):
        import_run("llama", tmp_path / "llama", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["llama"]


def test_biases_and_numbers_that_are_not_finite_are_refused(published, tmp_path):
    _, tensors, _ = published
    name = "model.layers.0.self_attn.q_proj"
    write_directory(tmp_path, None, tensors | {f"{name}.bias": np.zeros(16, "f4")})
    with pytest.raises(ValueError, match="q_proj.bias.*no Llama without biases"):
        import_run("llama", tmp_path, tmp_path / "run")
    broken = tensors[f"{name}.weight"].copy()
    broken[0, 0] = np.nan
    write_directory(tmp_path, None, tensors | {f"{name}.weight": broken})
    with pytest.raises(ValueError, match="q_proj.weight that are not finite"):
        import_run("llama", tmp_path, tmp_path / "run")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data[:-3], "no whole safetensors file"),
        (lambda data: data + b"xx", "no whole safetensors file"),
        (lambda data: data[:5], "no whole safetensors file"),
        (lambda data: b"PK\x03\x04" + data, "a pickle of PyTorch"),
        (lambda data: b"\x80\x02" + data, "a pickle of PyTorch"),
        (lambda data: data.replace(b'"F32"', b'"I32"'), "as I32"),
    ],
)
def test_damaged_safetensors_are_one_sentence(published, tmp_path, damage, message):
    directory, _, _ = published
    data = (directory / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(damage(data))
    with pytest.raises(ValueError, match=message):
        safetensors_files.read(tmp_path / "model.safetensors")


def test_pickles_beside_a_configuration_are_not_opened(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(llama_config()))
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="pytorch_model.bin is a pickle"):
        import_run("llama", tmp_path, tmp_path / "run")


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "no SentencePiece model"),
        (b"nonsense", "no SentencePiece model"),
        (b"\x80\x02", "pickle"),
        (published_tokenizer(precompiled_charsmap=b"x", name="nfkc"), r"\(nfkc\)"),
        (train_tokenizer(TEXTS * 3, 310).data, "310 ids and the model 300"),
    ],
)
def test_other_tokenizers_are_refused(published, tmp_path, data, message):
    directory, _, _ = published
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        import_run(
            "llama",
            directory,
            tmp_path / "run",
            tokenizer=[tmp_path / "tokenizer.model"],
        )
    assert not (tmp_path / "run").exists()


def test_files_of_llama2c_that_are_damaged_are_named(made_up, tmp_path):
    """Cut off, too long, of another version, a pickle; and their tokenizer."""
    sizes, weights, folder = made_up
    whole = llama2c.to_bytes(sizes, weights)
    fewer = sizes._replace(vocab=270), weights | {"emb": weights["emb"][:270]}
    tokenizer = (folder / "tokenizer.bin").read_bytes()
    cases = {
        "cut off": (whole[:-4], tokenizer),
        "cut off, or no such": (whole + b"1234", tokenizer),
        "too few": (whole[:100], tokenizer),
        "version 2": (whole[:4] + b"\2" + whole[5:], tokenizer),
        "damaged, or of another format": (b"\xff" * 5000, tokenizer),
        "a pickle": (b"PK\x03\x04" + whole, tokenizer),
        "no tokenizer of llama2.c": (whole, tokenizer[:-1]),
        "piece 3 is no byte": (whole, tokenizer.replace(b"<0x00>", b"<0x0x>")),
        "271 ids and the model 270": (llama2c.to_bytes(*fewer), tokenizer),
    }
    for message, (data, pieces) in cases.items():
        (tmp_path / "model.bin").write_bytes(data)
        (tmp_path / "tokenizer.bin").write_bytes(pieces)
        with pytest.raises(ValueError, match=message):
            import_run("llama2c", tmp_path / "model.bin", tmp_path / "run")
        assert not (tmp_path / "run").exists()
