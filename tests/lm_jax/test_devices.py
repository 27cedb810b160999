"""Every "auto" of a config becomes a choice, by the devices alone."""

import dataclasses

import pytest

import ar_jax
import mdlm_jax
from lm_jax.config import Config, ModelConfig
from lm_jax.devices import resolve_auto
from mdlm_jax.config import MDLMConfig

HALF = ModelConfig(dtype="bfloat16", width=64, num_heads=2)


@pytest.mark.parametrize(
    "model, backend, kernel",
    [
        (HALF, "gpu", "cudnn"),
        (HALF, "cpu", "xla"),
        (dataclasses.replace(HALF, dtype="float32"), "gpu", "xla"),
        (dataclasses.replace(HALF, width=24), "gpu", "xla"),  # heads of width 12
        (dataclasses.replace(HALF, attention="xla"), "gpu", "xla"),
    ],
)
def test_attention_is_fused_where_it_can_be(model, backend, kernel):
    """On a GPU in bfloat16 with heads of a multiple of 8; what is named stays."""
    found = resolve_auto(Config(model=model), backend, 1)
    assert found.model == dataclasses.replace(model, attention=kernel)
    assert resolve_auto(found, backend, 1) == found


def test_cudnn_is_refused_where_it_cannot_run():
    cfg = Config(model=dataclasses.replace(HALF, attention="cudnn"))
    with pytest.raises(ValueError, match="'cudnn' needs a GPU"):
        resolve_auto(cfg, "cpu", 1)


@pytest.mark.parametrize(
    "head, count, chosen",
    [("auto", 1, "masked"), ("auto", 2, "all"), ("all", 1, "all")],
)
def test_the_head_runs_at_masks_on_one_device(head, count, chosen):
    """MDLM's section has a choice of its own; AR has none."""
    cfg = Config(families={"mdlm": MDLMConfig(head=head)})
    own = resolve_auto(cfg.of_family(mdlm_jax.FAMILY.name), "cpu", count)
    assert own.section("mdlm").head == chosen
    ar = cfg.of_family(ar_jax.FAMILY.name)
    assert resolve_auto(ar, "cpu", count).families == {}
