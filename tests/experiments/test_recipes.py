"""The recipes are what they say: the study as published, and its repair."""

import dataclasses

import jax
import numpy as np
import pytest
from checkout import ROOT
from tiny_configs import load_config

from experiments import sweep
from experiments.ablation import ablation
from experiments.families import FAMILIES, own_configs
from lm_jax.config import Config, DataConfig, ModelConfig
from lm_jax.data import dataset
from lm_jax.data.splits import leaking_chunks

CONFIGS = ROOT / "experiments" / "configs"
STUDY_VOCABULARY = 50_257


def recipe(name: str, *size: str) -> Config:
    return Config.from_dict(load_config(CONFIGS / f"{name}.py", *size).to_dict())


def shapes(label: str, cfg: Config):
    own = own_configs(cfg)[label]
    return jax.eval_shape(lambda: FAMILIES[label].build(own).init(jax.random.key(0)))


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def as_the_study_counts(label: str, cfg: Config) -> int:
    """Parameters with the study's rows: V of text, and for MDLM one for MASK.

    The rows here are a multiple of 128, special ids included; the head of the study
    cannot emit MASK.
    """
    params = shapes(label, cfg)
    backbone, width = params["backbone"], cfg.model.width
    rows = {"embedding": STUDY_VOCABULARY + (label == "MDLM"), "head": STUDY_VOCABULARY}
    surplus = sum(
        backbone[name].size - rows[name] * width for name in rows if name in backbone
    )
    return count(params) - surplus


def test_published_has_the_parameters_of_the_study():
    """123,551,232 with a tied head, 162,739,968 with an untied one, V = 50,257."""
    cfg = recipe("published")
    assert as_the_study_counts("AR", cfg) == 123_551_232
    assert as_the_study_counts("MDLM", cfg) == 162_739_968


def test_published_prompts_ar_alone():
    """Its samplers bring "Once" for AR and nothing for MDLM."""
    own = own_configs(recipe("published"))
    prompts = {
        label: FAMILIES[label].samplers()[cfg.sample.sampler].prompt
        for label, cfg in own.items()
    }
    assert prompts == {"AR": "Once", "MDLM": ""}


def test_published_differs_in_the_head_alone():
    """All else that the families are trained with is the same."""
    ar, mdlm = own_configs(recipe("published")).values()
    assert (ar.model.tied_head, mdlm.model.tied_head) == (True, False)
    assert dataclasses.replace(mdlm, model=ar.model, families={}) == ar
    assert dataclasses.replace(mdlm.model, tied_head=True) == ar.model


@pytest.mark.parametrize("size", ["paper", "1m", "3m", "10m"])
def test_controlled_differs_by_the_time_embedding_alone(size):
    """One config for both; one tree of shapes but for that subtree."""
    cfg = recipe("controlled", size)
    ar, mdlm = own_configs(cfg).values()
    assert dataclasses.replace(mdlm, families={}) == ar and not cfg.family_overrides
    ar, mdlm = shapes("AR", cfg), shapes("MDLM", cfg)
    time_embedding = mdlm.pop("time_embedding")
    assert ar == mdlm
    width = cfg.model.width
    assert count(time_embedding) == width * width + width
    if size.endswith("m"):
        wanted = float(size[:-1]) * 1e6
        np.testing.assert_allclose(count(ar), wanted, rtol=0.1)


@pytest.mark.parametrize("size, millions", [("350m", 350), ("1b", 1300)])
def test_scale_has_the_sizes_that_it_says(size, millions):
    """Shapes alone: nothing is allocated."""
    cfg = recipe("scale", size)
    for label in FAMILIES:
        np.testing.assert_allclose(count(shapes(label, cfg)), millions * 1e6, rtol=0.1)


@pytest.mark.parametrize("name", ["controlled", "scale"])
def test_an_unknown_size_is_refused(name):
    """With the sizes that there are."""
    with pytest.raises(ValueError, match=f"{name}.py:7b is unknown: choose one of"):
        recipe(name, "7b")


def test_each_factor_of_the_study_changes_its_field_alone():
    """From `controlled`, one thing; and `published` is all of them."""
    cfg = recipe("controlled", "storyworld")
    everything = {}
    for training, families in ablation.TRAININGS.items():
        own = ablation.training_config(cfg, ablation.Trial(training, "MDLM", 0))
        flat = study_fields(own)
        changed = {
            name for name, value in study_fields(cfg).items() if flat[name] != value
        }
        assert changed == set(families["MDLM"])
        everything |= families["MDLM"]
    assert everything == ablation.TRAININGS["published"]["MDLM"]


def study_fields(cfg: Config) -> dict:
    return {
        f"{section}.{field}": value
        for section in ("data", "model", "optimizer", "train", "mdlm")
        for field, value in cfg.to_dict()[section].items()
    }


def test_published_at_a_small_size_is_the_recipe():
    """What experiments.ablation calls published, `published` has too."""
    fields = study_fields(own_configs(recipe("published"))["MDLM"])
    values = ablation.TRAININGS["published"]["MDLM"]
    assert {name: fields[name] for name in values} == values


@pytest.mark.parametrize(
    "overrides, words",
    [
        ({"mdlm": {"tied_haed": False}}, "tied_haed"),
        ({"mdlm": False}, "give fields of `model`"),
        ({"bert": {"tied_head": False}}, "names no family.*choose from ar, mdlm"),
    ],
)
def test_overrides_are_checked(overrides, words):
    """A family, a field of its model, and a value of its type."""
    with pytest.raises(ValueError, match=words):
        own_configs(Config(family_overrides=overrides))


def test_chunks_straddle_the_split():
    """The study's split: disjoint windows of one stream, a random share of them."""
    windows = np.arange(200, dtype=np.uint16).reshape(50, 4)
    train, valid = leaking_chunks(windows, 0.1, seed=0)
    assert (len(train), len(valid)) == (45, 5)
    assert set(train[:, 0]) | set(valid[:, 0]) == set(windows[:, 0])
    assert leaking_chunks(windows, 0.1, seed=1)[1].tolist() != valid.tolist()


def test_a_chunk_split_says_that_it_leaks(tmp_path, caplog):
    """Its windows come from the training stream, and a warning says so."""
    cfg = Config(
        data=DataConfig(
            num_stories=40,
            num_valid_stories=5,
            windows="stream",
            split="chunk",
            cache_dir=str(tmp_path),
        ),
        model=ModelConfig(length=32, vocab_size=400),
    )
    with caplog.at_level("WARNING"):
        data = dataset.load(cfg)
    assert "leaks" in caplog.text
    stream = "".join(data.train_documents)
    middle = data.tokenizer.decode(data.valid[0][4:-4])
    assert middle in stream
    with pytest.raises(ValueError, match="split='chunk'"):
        sweep.replace_fields(cfg, {"data.windows": "document"})


def test_few_stories_keep_the_tokenizer_of_all(tmp_path):
    """The same vocabulary and validation text; a first part of the training text."""

    def load(max_documents):
        data = DataConfig(
            num_stories=60,
            num_valid_stories=5,
            max_documents=max_documents,
            cache_dir=str(tmp_path),
        )
        return dataset.load(
            Config(data=data, model=ModelConfig(length=128, vocab_size=800))
        )

    whole, part = load(0), load(15)
    assert part.tokenizer.fingerprint == whole.tokenizer.fingerprint
    assert part.valid.tolist() == whole.valid.tolist()
    assert list(part.train_documents) == list(whole.train_documents)[:15]
    assert len(part.train) < len(whole.train)
