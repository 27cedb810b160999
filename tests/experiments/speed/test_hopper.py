"""The study's training step, compiled for a Hopper GPU on a machine that has none."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import pytest
from checkout import ROOT

import ar_jax
from experiments.families import FAMILIES
from experiments.speed import hopper
from lm_jax.config import ModelConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hopper.is_installed(), reason="needs the extra 'cuda'"),
]
ROWS, VOCABULARY = 32 * 512, 50_304  # padded
NUM_LAYERS = hopper.STUDY.model.num_layers


@pytest.fixture(scope="module")
def found():
    """Facts of both steps, from a process of its own: this one belongs to the CPU."""
    done = subprocess.run(
        [sys.executable, "-m", "experiments.speed.hopper"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_that_of_cudnn_in_every_layer(found, family):
    """Forward and backward, for both families: no score is ever written down."""
    calls = found[family]["custom_calls"]
    assert calls["__cudnn$fmhaSoftmax"] == NUM_LAYERS
    assert calls["__cudnn$fmhaSoftmaxBackward"] == NUM_LAYERS


@pytest.mark.parametrize("family", FAMILIES)
def test_no_matrix_product_is_in_float32(found, family):
    """But for the time embedding's, of one row for each window."""
    for product in found[family]["float32_products"]:
        rows = [min(dims) for dims in product]
        assert family == "MDLM" and min(rows) <= 32, product


@pytest.mark.parametrize("family", FAMILIES)
def test_no_float32_logits_are_in_memory(found, family):
    """The largest array of float32 is the embedding and what Adam keeps of it."""
    assert found[family]["largest_float32"] == [VOCABULARY, 768]


@pytest.mark.parametrize(
    "family, kernels, gigabytes", [("AR", 900, 7.5), ("MDLM", 980, 8.5)]
)
def test_kernels_and_memory_stay_few(found, family, kernels, gigabytes):
    """Within a tenth of what they were when this was written: 820 and 890 kernels, 6.9
    and 7.8 GB. MDLM's count holds both ways that its head can go."""
    assert found[family]["num_kernels"] <= kernels
    assert found[family]["temporary_bytes"] <= gigabytes * 1e9


@pytest.mark.parametrize("family", FAMILIES)
def test_the_state_is_donated(found, family):
    """All but the batch and a few scalars of what goes in is written over."""
    about = found[family]
    assert about["donated_bytes"] > 0.999 * (about["argument_bytes"] - 4 * ROWS)


@pytest.mark.parametrize("microbatches", [1, 4])
def test_devices_sum_gradients_in_float32(microbatches, tmp_path):
    """Of every matrix once, also with microbatches; of the tied table, which is read
    at both ends, twice, and with microbatches in each of them."""
    cfg = dataclasses.replace(
        hopper.STUDY,
        model=dataclasses.replace(
            hopper.STUDY.model, length=64, vocab_size=640, num_layers=2
        ),
        families={},
    )
    flags = [
        f"--config.model.{name}={value}"
        for name, value in dataclasses.asdict(cfg.model).items()
        if value != getattr(ModelConfig(), name)
    ]
    arguments = [
        "--on=h200",
        "--devices=2",
        "--shares=1",
        f"--accumulation={microbatches}",
    ]
    subprocess.run(
        [sys.executable, "-m", "experiments.speed.scaling", *arguments]
        + ["--config.train.batch_size=32", f"--out={tmp_path}/found.json", *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    (mesh,) = json.loads((tmp_path / "found.json").read_text())["meshes"].values()
    params = jax.eval_shape(ar_jax.language_model(cfg).init, jax.random.key(0))
    table = params["backbone"]["embedding"].size
    others = sum(leaf.size for leaf in jax.tree.leaves(params)) - table
    expected = 4 * (others + 2 * microbatches * table)
    sent = mesh["AR"]["communicated_bytes"]
    assert set(sent) == {"all-reduce"}
    assert expected <= sent["all-reduce"] <= expected + 100
