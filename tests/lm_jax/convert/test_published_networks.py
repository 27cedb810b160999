"""Tensors of DiT, GPT-2 and GPT-Neo: what is mapped, and what is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_networks import (
    GPT2,
    GPT_NEO,
    MDLM,
    SEDD,
    dit_tensors,
    gpt2_tensors,
    gpt_logits,
    gpt_neo_tensors,
)

import ar_jax
import mdlm_jax
from lm_jax.config import Config
from lm_jax.convert import dit, gpt
from lm_jax.model.architectures import make_backbone
from lm_jax.types import EOS

NETWORKS = {
    "mdlm": (dit.from_tensors, dit_tensors(), MDLM, mdlm_jax.FAMILY),
    "sedd": (dit.from_tensors, dit_tensors(prefix=""), SEDD, mdlm_jax.FAMILY),
    "gpt2": (gpt.from_tensors, gpt2_tensors(), GPT2, ar_jax.FAMILY),
    "gpt_neo": (gpt.from_tensors, gpt_neo_tensors(), GPT_NEO, ar_jax.FAMILY),
}
LAST_NORM = {
    "mdlm": "backbone.output_layer.norm_final.weight",
    "sedd": "output_layer.norm_final.weight",
    "gpt2": "ln_f.weight",
    "gpt_neo": "transformer.ln_f.weight",
}


@pytest.fixture(params=sorted(NETWORKS))
def name(request):
    return request.param


def read(name, tensors=None, settings=None, **options):
    """What is read where tensors or settings are others than the sound ones."""
    from_tensors, sound, usual, _ = NETWORKS[name]
    return from_tensors(
        sound if tensors is None else tensors,
        usual if settings is None else settings,
        **options,
    )


def test_parameters_are_those_of_the_language_model(name):
    """Names, shapes and types: a checkpoint of them can be restored."""
    changes, params = read(name)
    lm = NETWORKS[name][3].make(Config.from_dict(changes))
    wanted = jax.eval_shape(lm.init, jax.random.key(0))
    found = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, params))
    assert found == wanted


def test_half_precision_is_read(name):
    """As float32; bfloat16 is what many files hold."""
    tensors = {n: x.astype(jnp.bfloat16) for n, x in NETWORKS[name][1].items()}
    _, params = read(name, tensors)
    _, exact = read(name)
    for narrow, wide in zip(*map(jax.tree.leaves, (params, exact)), strict=True):
        assert narrow.dtype == np.float32
        np.testing.assert_allclose(narrow, wide, rtol=2**-8)


def test_wrong_tensors_are_refused_by_name(name):
    """One sentence for each, which begins with what is wrong."""
    norm, sound = LAST_NORM[name], NETWORKS[name][1]
    bare = norm.removeprefix("backbone.").removeprefix("transformer.")
    wrong = {
        f"lacks {bare}": {n: x for n, x in sound.items() if n != norm},
        "has extra.weight": sound | {"extra.weight": sound[norm]},
        f"{bare} of the shape": sound | {norm: sound[norm][:-1]},
        f"{bare} as int8": sound | {norm: sound[norm].astype(np.int8)},
        f"{bare} as float64": sound | {norm: sound[norm].astype(float)},
        f"in {bare} that are not finite": sound | {norm: np.nan * sound[norm]},
    }
    for message, tensors in wrong.items():
        with pytest.raises(ValueError, match=message):
            read(name, tensors)


@pytest.mark.parametrize(
    "name, field, value, message",
    [
        ("mdlm", "model_type", "duo", "model_type='duo'"),
        ("mdlm", "model_type", None, "model_type=None"),
        ("mdlm", "hidden_dim", "16", "hidden_dim='16'"),
        ("mdlm", "n_blocks", 3, "lacks blocks.2"),
        ("mdlm", "causal", True, "causal=True"),
        ("mdlm", "n_heads", 16, "must be a multiple"),
        ("mdlm", "vocab_size", 70_000, "16-bit"),
        ("sedd", "graph", {"type": "uniform"}, "graph.type='uniform'"),
        ("sedd", "noise", {"type": "geometric"}, "noise.type='geometric'"),
        ("sedd", "model", None, "no section `model`"),
        ("gpt2", "model_type", "opt", "model_type='opt'"),
        ("gpt2", "n_layer", True, "n_layer=True"),
        ("gpt2", "activation_function", "relu", "activation_function='relu'"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True, "inverse_layer_idx=True"),
        ("gpt2", "eos_token_id", 2, "eos_token_id=2"),
        ("gpt2", "n_inner", 24, "of the shape"),
        ("gpt2", "layer_norm_epsilon", "1e-5", "layer_norm_epsilon='1e-5'"),
        ("gpt_neo", "window_size", 128, "window_size=128"),
        ("gpt_neo", "attention_types", [[["global"], 2]], r"\['global', 'global'\]"),
        ("gpt_neo", "attention_types", 3, "attention layers 3"),
        ("gpt_neo", "attention_layers", ["local", "global"], r"\['local', 'global'\]"),
    ],
)
def test_other_settings_are_refused_by_name(name, field, value, message):
    """Whatever changes the arithmetic, and is not computed here."""
    with pytest.raises(ValueError, match=message):
        read(name, settings=NETWORKS[name][2] | {field: value})


def test_block_diffusion_is_read_where_the_window_is_one_block():
    """A network of smaller blocks never saw the text after a block."""
    settings = MDLM | {"model_type": "bd3lm", "block_size": 12}
    changes, _ = read("mdlm", settings=settings)
    assert changes["mdlm"]["time_embedding"] == "none"
    with pytest.raises(ValueError, match="block_size=4"):
        read("mdlm", settings=settings | {"block_size": 4})


def test_other_rotary_frequencies_are_refused():
    """They are a constant here."""
    tensors = NETWORKS["mdlm"][1]
    frequencies = tensors["backbone.rotary_emb.inv_freq"]
    other = {"backbone.rotary_emb.inv_freq": frequencies**2}
    with pytest.raises(ValueError, match="inv_freq of another base"):
        read("mdlm", {**tensors, **other})
    del (without := dict(tensors))["backbone.rotary_emb.inv_freq"]
    read("mdlm", without)


def test_head_of_gpt_is_its_embedding():
    """Some files hold it twice, which is fine, and old ones hold causal masks."""
    tensors = NETWORKS["gpt2"][1]
    copy = {
        "lm_head.weight": tensors["wte.weight"],
        "h.0.attn.bias": np.ones((1, 1, 20, 20), np.uint8),
        "h.0.attn.masked_bias": np.array(-1e4, np.float32),
    }
    _, params = read("gpt2", tensors | copy)
    jax.tree.map(np.testing.assert_array_equal, params, read("gpt2")[1])
    with pytest.raises(ValueError, match=r"lm_head.weight that is not its wte.weight"):
        read("gpt2", tensors | {"lm_head.weight": 2 * tensors["wte.weight"]})


@pytest.mark.parametrize("name", ["mdlm", "gpt2"])
def test_windows_may_be_shorter_than_in_training(name):
    """GPT keeps the first positions; a longer window is refused."""
    changes, params = read(name, length=6)
    assert changes["model"]["length"] == 6
    if name == "gpt2":
        assert params["backbone"]["positions"].shape == (6, 16)
    for length in (1, 21):
        with pytest.raises(ValueError, match=f"length={length} must lie between"):
            read(name, length=length)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neo"])
def test_logits_are_those_of_transformers(kind):
    """A network that transformers makes, with its own names and configuration."""
    torch = pytest.importorskip("torch", reason="needs the extra hf")
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    torch.manual_seed(0)
    cfg = transformers.AutoConfig.for_model(**NETWORKS[kind][2])
    network = transformers.AutoModelForCausalLM.from_config(
        cfg, attn_implementation="eager"
    ).eval()
    for parameter in network.parameters():  # biases too, which begin at zero
        torch.nn.init.normal_(parameter, std=0.3)
    tensors = {n: x.detach().numpy() for n, x in network.state_dict().items()}
    changes, params = gpt.from_tensors(tensors, cfg.to_dict())
    model = Config.from_dict(changes).model
    ids = np.random.default_rng(0).integers(0, 11, (2, model.length))
    with torch.no_grad():
        expected = network(torch.tensor(ids)).logits.numpy()
    backbone = make_backbone(model, causal=True)
    params = jax.tree.map(jnp.asarray, params["backbone"])
    tokens = jnp.asarray(np.where(ids == 10, EOS, ids + 5), jnp.int32)
    found = np.asarray(backbone.logits(params, tokens))
    found = np.concatenate([found[..., 5:15], found[..., EOS : EOS + 1]], axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # The arithmetic in NumPy is that of transformers too.
    np.testing.assert_allclose(gpt_logits(tensors, ids[0]), expected[0], atol=1e-4)
