"""What is exported, opened by transformers: the same logits, texts and ids."""

import contextlib
import dataclasses
import io
import os
import re

import jax.numpy as jnp
import numpy as np
import pytest
from hard_texts import HARD_TEXTS, TEXTS
from llama_files import llama_config, own_run, write_directory

from lm_jax import run
from lm_jax.convert import export_run, import_run
from lm_jax.model.architectures import make_backbone
from lm_jax.model.nll import text_logits
from lm_jax.types import BOS, MASK, NUM_NON_TEXT
from mdlm_jax.config import MDLMConfig
from mdlm_jax.time_embedding import make_time_embedding

REASON = "needs the extra 'hf'"
safetensors = pytest.importorskip("safetensors", reason=REASON)
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)

torch.set_num_threads(1)  # models of this size do not fill one

TIMES = np.array([0.0, 0.3, 1.0], np.float32)


def our_logits(model, ids, t=None):
    """Logits of the vocabulary by our backbone."""
    cfg, conditioning = model.run.cfg, ()
    if t is not None:
        own = cfg.section("mdlm")
        found = make_time_embedding(own, cfg.model).apply(model.params, jnp.asarray(t))
        conditioning = (found._replace(bos_at_start=own.bos_at_start),)
    backbone = make_backbone(cfg.model, causal=t is None)
    found = backbone.logits(model.params["backbone"], jnp.asarray(ids), *conditioning)
    return np.asarray(found)[..., : cfg.model.vocab_size]


def their_logits(theirs, ids, *args):
    with torch.inference_mode():
        return theirs(torch.tensor(ids), *map(torch.tensor, args)).logits.numpy()


def random_ids(model, first=NUM_NON_TEXT):
    cfg = model.run.cfg.model
    return np.random.default_rng(0).integers(first, cfg.vocab_size, (3, cfg.length))


def require_close(ours, theirs):
    """Equal within 1e-5 of the largest logit."""
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(ours).max()


@pytest.mark.parametrize(
    "options",
    [{}, {"tied_head": False, "width": 24, "rope_base": 500.0, "norm_epsilon": 1e-4}],
)
def test_an_exported_ar_run_has_the_same_logits_and_text(tmp_path, options):
    """LlamaForCausalLM without code of ours: logits, and greedy text after a prompt."""
    model = own_run(tmp_path / "run", **options)
    out = export_run(tmp_path / "run", tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert type(theirs).__name__ == "LlamaForCausalLM"
    ids = random_ids(model)
    ids[:, 0] = BOS
    require_close(our_logits(model, ids), their_logits(theirs, ids))
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    inputs = tokenizer("One day", return_tensors="pt", return_token_type_ids=False)
    size = inputs["input_ids"].shape[1]
    written = theirs.generate(**inputs, do_sample=False, max_length=16)[0].tolist()
    cfg = dataclasses.replace(
        model.run.cfg.sample, temperature=0.0, num_samples=1, length=15
    )
    samples, _ = run.sample(model, cfg, prompt="One day")
    assert size < len(written) and written[0] == BOS
    assert written[1:] == samples[0].tokens[: len(written) - 1]


@pytest.mark.parametrize(
    "own, options",
    [
        (MDLMConfig(), {}),
        (MDLMConfig(time_embedding="adaln", time_scale=1.0), {"tied_head": False}),
        (MDLMConfig(time_embedding="none", bos_at_start=False), {"width": 24}),
    ],
)
def test_an_exported_mdlm_run_has_the_same_logits(tmp_path, own, options):
    """By its own modeling file, at several times; ids that are no text have -inf."""
    model = own_run(tmp_path / "run", "mdlm", {"mdlm": own}, **options)
    out = export_run(tmp_path / "run", tmp_path / "out")
    theirs = transformers.AutoModel.from_pretrained(out, trust_remote_code=True)
    z = random_ids(model)
    z[:, ::2] = MASK
    ours = np.asarray(text_logits(jnp.asarray(our_logits(model, z, TIMES))))
    found = their_logits(theirs, z, TIMES)
    assert np.isneginf(found[..., :NUM_NON_TEXT]).all()
    require_close(ours[..., NUM_NON_TEXT:], found[..., NUM_NON_TEXT:])


@pytest.mark.parametrize("schedule", ["linear", "cos_squared"])
def test_the_sampler_of_the_card_writes_whole_windows(tmp_path, schedule):
    """The ten lines of README.md run as they stand, with two schedules."""
    own_run(tmp_path / "run", "mdlm", {"mdlm": MDLMConfig(schedule=schedule)})
    out = export_run(tmp_path / "run", tmp_path / "out")
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (out / "README.md").read_text(), re.S | re.M
    )
    names, here = {}, os.getcwd()
    os.chdir(out)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, "README.md", "exec"), names)
    finally:
        os.chdir(here)
    assert names["z"].shape == (4, 32)
    assert bool((names["z"] >= NUM_NON_TEXT).all())


def test_tokenizers_give_the_same_ids_and_texts(tmp_path):
    """tokenizer.json begins with BOS, spells every text the same, and reads it back."""
    model = own_run(tmp_path / "run")
    out = export_run(tmp_path / "run", tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    # A special token or U+2581 in a text is text here, and not there.
    texts = [text for text in [*TEXTS, *HARD_TEXTS] if "<s>" not in text]
    for text in (text for text in texts if "\u2581" not in text):
        ids = model.run.tokenizer.encode([text])[0].tolist()
        assert theirs(text)["input_ids"] == [BOS, *ids]
        assert theirs.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("tied", [False, True])
def test_an_imported_llama_has_the_logits_of_transformers(tmp_path, tied):
    """Grouped heads, another base and epsilon, tied or not."""
    config = llama_config(tie_word_embeddings=tied, rms_norm_eps=1e-3)
    write_directory(tmp_path / "llama", config)
    import_run("llama", tmp_path / "llama", tmp_path / "run")
    model = run.load(tmp_path / "run")
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "llama")
    assert theirs.config.num_key_value_heads == 2
    ids = np.random.default_rng(0).integers(3, 300, (2, 20))
    found = their_logits(theirs, np.pad(ids, ((0, 0), (1, 0)), constant_values=1))
    inputs = np.pad(ids + 4, ((0, 0), (1, 0)), constant_values=BOS)
    # Theirs 0, 1, 2, 3, ... are ours 5, 6, EOS, 7, ...
    order = [5, 6, 4, *range(7, 304)]
    require_close(our_logits(model, inputs)[..., order], found)


def test_stories260k_goes_round(stories, tmp_path):
    """A published model, exported: logits and tokenizer as they were."""
    out = export_run(stories.run.path, tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out)
    ids = random_ids(stories)[:, :64]
    require_close(our_logits(stories, ids), their_logits(theirs, ids))
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    for text in TEXTS:
        ids = stories.run.tokenizer.encode([text])[0].tolist()
        assert tokenizer(text)["input_ids"] == [BOS, *ids]
        assert tokenizer.decode(ids) == text
