"""The shared backbone: equal for both families, causal for one, cached exactly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ar_jax
import mdlm_jax
from ar_jax.objective import shift_right
from lm_jax.config import Config, ModelConfig, SampleConfig, TrainConfig
from lm_jax.model.architectures import make_backbone
from lm_jax.model.attention import attend, rope
from lm_jax.model.flops import training_flops_per_token
from lm_jax.model.kernels import matmul_f32_grad
from lm_jax.model.transformer import Conditioning
from lm_jax.types import EOS, MASK, PAD, Rows
from mdlm_jax.config import MDLMConfig
from mdlm_jax.time_embedding import TimeEmbedding, make_time_embedding

MODEL = ModelConfig(
    length=12, vocab_size=20, width=16, num_layers=2, num_heads=2, ffn_width=24
)
X = jax.random.randint(jax.random.key(11), (3, 12), EOS, 20)
FAMILIES = {"ar": ar_jax.FAMILY, "mdlm": mdlm_jax.FAMILY}


@pytest.fixture(scope="module", params=["none", "additive", "adaln"])
def time_embedding(request):
    return request.param


def config(**own):
    """The config of a small model; `own` are fields of MDLM's section."""
    return Config(model=MODEL, families={"mdlm": MDLMConfig(**own)})


def params_of(family, **own):
    cfg = config(**own)
    return FAMILIES[family].build(cfg).init(jax.random.key(0))


def test_both_families_have_equal_parameters_for_one_key(time_embedding):
    """The trees are equal, value for value, except the subtree time_embedding."""
    ar = params_of("ar", time_embedding=time_embedding)
    mdlm = params_of("mdlm", time_embedding=time_embedding)
    assert ("time_embedding" in mdlm) == (time_embedding != "none")
    mdlm.pop("time_embedding", None)
    jax.tree.map(np.testing.assert_array_equal, ar, mdlm)


def test_other_keys_give_other_parameters():
    """The equality above is not that of constants."""
    cfg = Config(model=MODEL)
    lm = ar_jax.language_model(cfg)
    one, other = lm.init(jax.random.key(0)), lm.init(jax.random.key(1))
    first, second = (p["backbone"]["embedding"] for p in (one, other))
    assert np.abs(first - second).max() > 1e-3


def test_time_begins_without_effect(time_embedding):
    """Untrained, every time embedding leaves the backbone as it is without one."""
    embedding = make_time_embedding(MDLMConfig(time_embedding=time_embedding), MODEL)
    backbone = make_backbone(MODEL, causal=False)
    params = backbone.init(jax.random.key(0))
    conditioning = embedding.apply(
        embedding.init(jax.random.key(1)), jnp.array([0.1, 0.5, 0.9])
    )
    np.testing.assert_allclose(
        backbone.logits(params, X, conditioning),
        backbone.logits(params, X),
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["additive", "adaln"])
def test_time_has_an_effect_once_trained(name):
    """With other parameters than the first, other times give other logits."""
    embedding = make_time_embedding(MDLMConfig(time_embedding=name), MODEL)
    backbone = make_backbone(MODEL, causal=False)
    params = backbone.init(jax.random.key(0))
    noise = jax.tree.map(lambda p: p + 0.1, embedding.init(jax.random.key(1)))
    early, late = (
        backbone.logits(params, X, embedding.apply(noise, jnp.full(3, t)))
        for t in (0.1, 0.9)
    )
    text = np.s_[..., : MODEL.vocab_size]
    assert np.abs(early[text] - late[text]).max() > 1e-3


def test_modulation_is_shift_scale_and_gate():
    """A gate of -1 on every branch leaves the embedding alone: no layer acts."""
    backbone = make_backbone(MODEL, causal=False)
    params = backbone.init(jax.random.key(0))
    closed = jnp.zeros((3, 2, 6, 16)).at[:, :, jnp.array([2, 5])].set(-1.0)
    logits = backbone.logits(params, X, Conditioning(modulation=closed))
    h = 4.0 * params["embedding"][X]  # sqrt(D)
    h = h / np.sqrt((np.float64(h) ** 2).mean(-1, keepdims=True) + 1e-6)
    expected = h @ params["embedding"].T
    np.testing.assert_allclose(logits[..., :20], expected[..., :20], atol=1e-5)


def test_a_marked_start_tells_positions_apart():
    """Rotary embeddings see distances, and nothing but MASK is nowhere: without a mark
    every position of an all-MASK window has the same logits, with one none has."""
    nothing = jnp.full((1, 12), MASK)
    backbone = make_backbone(MODEL, causal=False)
    params = backbone.init(jax.random.key(0))
    for bos_at_start, num_different in ((False, 1), (True, 12)):
        conditioning = Conditioning(bos_at_start=bos_at_start)
        logits = backbone.logits(params, nothing, conditioning)
        logits = np.asarray(logits[0, :, : MODEL.vocab_size])
        # Not by rounding: two sides of a rounding edge are no difference.
        differ = np.abs(logits[:, None] - logits[None]).max(axis=-1) > 1e-5
        assert len(np.unique(differ, axis=0)) == num_different


def test_only_the_study_leaves_the_start_unmarked():
    """bos_at_start=True is the default, and it changes what the MDLM says."""
    params = params_of("mdlm")
    nats = [
        mdlm_jax.language_model(config(bos_at_start=bos_at_start)).token_nll(
            params, X, jax.random.key(2)
        )
        for bos_at_start in (True, False)
    ]
    assert MDLMConfig().bos_at_start
    assert np.abs(nats[0] - nats[1]).max() > 1e-3


def test_embeddings_share_one_direction():
    """E = point + noise, both of unit length, so that cos(E_v, E_w) is near 1/2."""
    cfg = dataclasses.replace(MODEL, width=512, vocab_size=100)
    table = make_backbone(cfg, causal=True).init(jax.random.key(0))["embedding"]
    cosines = np.corrcoef(table)[np.triu_indices(100, 1)]
    np.testing.assert_allclose(cosines.mean(), 0.5, atol=0.1)
    assert cosines.max() < 0.8


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_is_that_of_jax(causal, dtype):
    """Heads first or last, softmax(q k^T / sqrt(K)) v and its gradient are the same."""
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 9, 4, 8), dtype)

    def plain(q, k, v):
        return attend(q, k, v, causal=causal, implementation="xla")

    def library(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal)

    def gradients(f):
        return jax.grad(lambda *qkv: jnp.sum(jnp.sin(f(*qkv))), (0, 1, 2))(q, k, v)

    tolerance = 1e-5 if dtype == "float32" else 3e-2
    pairs = zip(
        (plain(q, k, v), *gradients(plain)),
        (library(q, k, v), *gradients(library)),
        strict=True,
    )
    for ours, theirs in pairs:
        ours, theirs = np.float32(ours), np.float32(theirs)
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


@pytest.mark.parametrize("causal", [True, False])
def test_only_the_causal_backbone_is_causal(causal):
    """d logits[l] / d input[m] is zero for m > l if causal, and never if not."""
    backbone = make_backbone(MODEL, causal=causal)
    params = backbone.init(jax.random.key(0))
    changed = X.at[:, 7].set(EOS + (X[:, 7] - EOS + 1) % 10)
    before, after = (backbone.logits(params, x)[..., EOS:20] for x in (X, changed))
    moved = np.abs(before - after).max((0, 2)) > 1e-7
    expected = np.arange(12) >= 7 if causal else np.ones(12, bool)
    np.testing.assert_array_equal(moved, expected)


def test_rope_scores_depend_on_distance_alone():
    """rope(q, i) . rope(k, j) = rope(q, i + 5) . rope(k, j + 5), for all i, j."""
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 4, 1, 8))
    near = jnp.arange(4)

    def scores(positions):
        return jnp.einsum("blhk,bmhk->lm", rope(q, positions), rope(k, positions))

    np.testing.assert_allclose(scores(near), scores(near + 5), atol=1e-4)
    assert np.abs(scores(near) - scores(2 * near)).max() > 0.1


def test_cached_decoding_equals_the_whole_window():
    """Token by token with a cache = all positions at once, for every position."""
    backbone = make_backbone(MODEL, causal=True)
    params = backbone.init(jax.random.key(0))
    inputs = shift_right(X)
    expected = backbone.logits(params, inputs)
    cache, columns = backbone.init_cache(3, 12), []
    decode = jax.jit(backbone.decode)
    for position in range(12):
        logits, cache = decode(params, cache, inputs[:, position], jnp.int32(position))
        columns.append(logits)
    np.testing.assert_allclose(jnp.stack(columns, 1), expected, atol=1e-5)


def test_padding_of_the_vocabulary_is_ruled_out():
    """20 words in a table of 128: the other 108 are impossible."""
    backbone = make_backbone(MODEL, causal=True)
    logits = backbone.logits(backbone.init(jax.random.key(0)), X)
    assert logits.shape == (3, 12, 128)
    assert np.all(np.isneginf(logits[..., 20:]))
    assert np.all(np.isfinite(logits[..., :20]))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_uniform_head_scores_log_v(family):
    """With a head of zeros both yardsticks read log(V - 4) nats per token, exactly."""
    lm = FAMILIES[family].build(Config(model=MODEL))
    params = lm.init(jax.random.key(0))
    params["backbone"]["embedding"] = jnp.zeros((128, 16))
    nats, _ = lm.log_likelihood(params, X, jax.random.key(1), 4)
    np.testing.assert_allclose(-nats / 12, np.log(16), rtol=1e-5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_and_gradients_are_finite_float32(family, dtype):
    """Master weights and losses are float32 whatever the activations are."""
    cfg = Config(model=dataclasses.replace(MODEL, dtype=dtype, dropout=0.1))
    lm = FAMILIES[family].build(cfg)
    params = lm.init(jax.random.key(0))
    x = X.at[:, 9:].set(PAD)

    def loss(params):
        return lm.token_nll(params, x, jax.random.key(1)).sum()

    nats, grads = jax.jit(jax.value_and_grad(loss))(params)
    assert nats.dtype == jnp.float32
    for leaf in jax.tree.leaves(grads):
        assert leaf.dtype == jnp.float32
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_dropout_acts_in_training_only(family):
    """token_nll feels it, in both families; log_likelihood does not."""
    wet = FAMILIES[family].build(Config(model=dataclasses.replace(MODEL, dropout=0.5)))
    dry = FAMILIES[family].build(Config(model=MODEL))
    params = dry.init(jax.random.key(0))
    key = jax.random.key
    one, other = (lm.token_nll(params, X, key(1)).sum() for lm in (wet, dry))
    assert abs(one - other) > 1e-3
    one, other = (lm.log_likelihood(params, X, key(1), 2)[0] for lm in (wet, dry))
    np.testing.assert_array_equal(one, other)


def test_microbatches_have_dropout_masks_of_their_own():
    """The same windows, as rows 0 and 2 and as rows 1 and 3 of a batch of four."""
    lm = ar_jax.language_model(Config(model=dataclasses.replace(MODEL, dropout=0.5)))
    params = lm.init(jax.random.key(0))
    one, other = (
        lm.token_nll(params, X[:2], jax.random.key(1), Rows(jnp.array(index), 4))
        for index in ([0, 2], [1, 3])
    )
    assert np.abs(one - other).max() > 1e-2


@pytest.mark.parametrize("times", ["stratified", "independent"])
def test_times_are_those_of_the_config(times):
    """Row 1 of 2 has another time than row 1 of 64 only if times are stratified."""
    lm = mdlm_jax.language_model(config(times=times))
    params = lm.init(jax.random.key(0))
    one, other = (
        lm.token_nll(params, X[:1], jax.random.key(1), Rows(jnp.array([1]), total))
        for total in (2, 64)
    )
    assert np.array_equal(one, other) == (times == "independent")


def test_likelihood_and_its_details_have_the_schedule_of_the_config(monkeypatch):
    """1 - alpha(t) = t^2 is the share of masks that the network is given with t."""
    seen = []

    def apply(params, t):
        jax.debug.callback(lambda t: seen.append(np.asarray(t)), t)
        return Conditioning()

    embedding = TimeEmbedding(lambda key: {}, apply)
    monkeypatch.setattr("mdlm_jax.model.make_time_embedding", lambda *_: embedding)
    lm = mdlm_jax.language_model(config(schedule="polynomial"))
    params, details = lm.init(jax.random.key(0)), lm.diagnostics
    assert details is not None
    lm.log_likelihood(params, X, jax.random.key(1), 4)
    details.token_scores(params, X, jax.random.key(1))
    jax.effects_barrier()
    assert len(seen) == 4 + 1
    num_masked = 12 * np.square(seen)
    np.testing.assert_allclose(num_masked, np.round(num_masked), atol=1e-4)


def test_samples_have_the_schedule_of_the_config():
    """At t = 1/2 alpha = 1 - t^2 is 3/4: the first of two steps unmasks 9 of 12."""
    lm = mdlm_jax.language_model(config(schedule="polynomial"))
    cfg = SampleConfig(sampler="confidence", num_steps=2, grid="")
    params = lm.init(jax.random.key(0))
    steps = lm.sample(params, jax.random.key(1), (3, 12), cfg).unmask_step
    np.testing.assert_array_equal(np.sum(np.asarray(steps) == 0, axis=1), 9)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_samples_are_text(family):
    """Whole windows without PAD or MASK; given tokens stay; rows ignore the batch."""
    lm = FAMILIES[family].build(Config(model=MODEL))
    params = lm.init(jax.random.key(0))
    cfg = SampleConfig(num_steps=4)
    template = jnp.full((4, 12), MASK).at[:, :2].set(jnp.array([[7, 9]]))
    draw = jax.jit(lm.sample, static_argnums=(2, 3))
    x = draw(params, jax.random.key(3), (4, 12), cfg, template).tokens
    assert np.all(x >= EOS) and np.all(x < 20)
    np.testing.assert_array_equal(x[:, :2], template[:, :2])
    late = draw(params, jax.random.key(3), (2, 12), cfg, template[:2], jnp.int32(2))
    np.testing.assert_array_equal(late.tokens, x[2:])


def test_study_objective_refuses_accumulation():
    """token_mean is a mean over the masks of a whole batch."""
    cfg = dataclasses.replace(
        config(objective="token_mean"), train=TrainConfig(accumulation=2)
    )
    with pytest.raises(ValueError, match="accumulation=2"):
        mdlm_jax.language_model(cfg)


@pytest.mark.parametrize("field", ["schedule", "objective", "time_embedding"])
def test_unknown_choice_is_named(field):
    """The error says the value and the choices."""
    cfg = config(**{field: "nonsense"})
    with pytest.raises(ValueError, match=f"{field}='nonsense'.*choose one of"):
        mdlm_jax.language_model(cfg)


def test_flops_are_those_of_the_reference_table():
    """769.5 and 797.8 MFLOP per token at 12 x 768, V = 50,257 + specials, L = 512.

    The hand count: 6 (12 (4 768^2 + 3 768 2048) + 50,257 768) + 6 or 12 of 12 768 512.
    """
    cfg = ModelConfig(
        length=512,
        vocab_size=50_257,
        width=768,
        num_layers=12,
        num_heads=12,
        ffn_width=2048,
    )
    causal = training_flops_per_token(cfg, causal=True)
    full = training_flops_per_token(cfg, causal=False)
    np.testing.assert_allclose([causal / 1e6, full / 1e6], [769.5, 797.8], rtol=1e-3)


def test_the_gradient_of_a_matrix_is_not_rounded_to_bfloat16():
    """It is float32 before it is summed over microbatches and devices."""
    keys = jax.random.split(jax.random.key(0), 3)
    x, grad = (jax.random.normal(key, (4_096, 16), "bfloat16") for key in keys[:2])
    kernel = jax.random.normal(keys[2], (16, 16))
    y, pull = jax.vjp(matmul_f32_grad, x, kernel)
    grad_x, grad_kernel = pull(grad)
    assert y.dtype == grad_x.dtype == jnp.bfloat16 and grad_kernel.dtype == jnp.float32
    exact = np.asarray(x, np.float64).T @ np.asarray(grad, np.float64)
    error = np.linalg.norm(grad_kernel - exact) / np.linalg.norm(exact)
    assert error < 1e-5  # a rounding to bfloat16 would be 1e-3
    narrow = kernel.astype("bfloat16")
    np.testing.assert_array_equal(y, x @ narrow)
    np.testing.assert_array_equal(grad_x, grad @ narrow.T)
