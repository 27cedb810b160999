"""The audit of bounds: every estimator is in it, and one that is too good is found."""

import pytest

from experiments import audit_bounds
from experiments.families import FAMILIES
from lm_jax import run
from lm_jax.config import EvaluateConfig, SampleConfig
from mdlm_jax import sampling

CFG = EvaluateConfig(max_windows=4, num_draws=4, num_orders=2, num_resamples=100)


@pytest.fixture
def few_samplers(monkeypatch):
    """An exact sampler and one in random order; AR's own."""
    all_presets = FAMILIES["MDLM"].samplers()
    few = {name: all_presets[name] for name in ("spread", "ancestral", "remdm_cap")}
    mdlm = FAMILIES["MDLM"]._replace(samplers=lambda: few)
    monkeypatch.setitem(audit_bounds.FAMILIES, "MDLM", mdlm)


def test_every_sampler_with_a_likelihood_is_audited(finished):
    """And both objectives, the bound, and the predictions behind it."""
    workdir, cfg, _ = finished
    model = run.load(workdir / "mdlm", FAMILIES["MDLM"])
    names = {e.name for e in audit_bounds.estimators(model, model.run.valid, 4, 2)}
    assert names >= {"objective nelbo", "objective token_mean", "log_likelihood"}
    for name in sampling.samplers():
        try:
            sampling.order(SampleConfig(sampler=name), cfg.model.length)
        except ValueError:
            assert f"sampler {name}" not in names
        else:
            assert f"sampler {name}" in names


def test_bounds_hold_and_agree_with_each_other(finished, few_samplers):
    """The objective, the score and its predictions have one mean; all lie above the
    entropy of the grammar, far above it after 12 steps."""
    rows = audit_bounds.audited(finished[0], CFG)
    verdicts = {(row["family"], row["name"]): row["verdict"] for row in rows}
    assert verdicts.pop(("mdlm", "objective token_mean")) == "no bound"
    assert set(verdicts.values()) == {"holds"} and len(verdicts) == 6 + 7
    nats = {(row["family"], row["name"]): row["nats_per_token"] for row in rows}
    for family in ("ar", "mdlm"):
        alike = [nats[family, name] for name in ("log_likelihood", "token_scores")]
        assert alike[0] == pytest.approx(alike[1], rel=1e-3 if family == "ar" else 0.2)
    assert nats["mdlm", "objective nelbo"] == pytest.approx(
        nats["mdlm", "log_likelihood"], rel=0.2
    )
    for row in rows:
        assert row["above_source"]["value"] > 1.0


def test_a_score_below_the_entropy_is_found(finished, few_samplers, monkeypatch):
    """A seeded defect: a bound that leaves out most of its terms."""
    whole = audit_bounds.window_nats

    def broken(*args, **kwargs):
        nats, errors = whole(*args, **kwargs)
        return 0.02 * nats, errors

    monkeypatch.setattr(audit_bounds, "window_nats", broken)
    rows = audit_bounds.audited(finished[0], CFG)
    bad = {row["name"] for row in rows if row["verdict"] == "violated"}
    assert bad == {"log_likelihood"}


def test_a_text_without_a_known_source_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="holds no run of ar, mdlm: pass the --workdir"
    ):
        audit_bounds.audited(tmp_path, CFG)
