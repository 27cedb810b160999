"""Training, scoring and writing as functions of a family, and what they refuse."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_configs import FAMILIES, toy

from lm_jax import files, run
from lm_jax.config import Config, SampleConfig
from lm_jax.sampling.samples_file import read_samples


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_text_of_a_row_ignores_the_batch(finished, name):
    """Six samples in batches of two are those in batches of four."""
    workdir, cfg, _ = finished
    small = SampleConfig(**{**vars(cfg.sample), "batch_size": 2})
    samples, _ = run.sample(
        run.load(workdir / name, FAMILIES[name]), small, seed=cfg.seed
    )
    stored = read_samples(workdir / name / "comparison" / "samples.jsonl")
    assert [s.tokens for s in samples] == [s.tokens for s in stored]


def test_runs_with_old_names_can_be_read(tmp_path):
    """Samplers, schedules and fields have the names of this version."""
    values = Config().to_dict()
    values["model"] |= {"mark_start": False, "schedule": "study"}
    values["sample"]["sampler"] = "careful"
    del values["family_overrides"]
    values["unequal"] = "mdlm.model.tied_head=False, mdlm.model.dtype=bfloat16"
    values["unequal"] += ", mdlm.model.times=independent"
    (tmp_path / "config.json").write_text(json.dumps(values))
    files.write_json(tmp_path / "run.json", {"family": "mdlm", "fingerprint": ""})
    cfg = run.read_config(tmp_path)
    assert cfg.sample.sampler == "low_temperature"
    assert (
        cfg.section("mdlm").schedule == "cos_squared"
        and not cfg.section("mdlm").bos_at_start
    )


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_an_unknown_sampler_is_named_before_training(name, cache_dir, tmp_path):
    """Not hours later, when the first sample is drawn."""
    cfg = dataclasses.replace(toy(cache_dir), sample=SampleConfig(sampler="beam"))
    with pytest.raises(ValueError, match="sampler='beam' is unknown: choose one of"):
        run.train(FAMILIES[name], cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluation_of_a_text_file(finished, tmp_path):
    """Any text, in the units of bytes; the held-out stories score as themselves."""
    workdir, _, _ = finished
    path = tmp_path / "story.txt"
    text = "Once upon a time, there was a kind girl named Sara."
    path.write_text(text)
    scores = run.evaluate(run.load(workdir / "ar", FAMILIES["ar"]), text_file=str(path))
    assert scores["num_bytes"] == len(text) + 1  # the end of the story counts as one
    assert scores["num_windows"] == 1
    bits = scores["nats_per_token"] * scores["num_tokens"] / np.log(2)
    np.testing.assert_allclose(scores["bits_per_byte"], bits / scores["num_bytes"])


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_all_of_a_user_s_text_is_scored(finished, name, tmp_path):
    """Every byte of every document, however long, whatever the run's own limits; and
    what a limit of the call leaves out is counted."""
    workdir, cfg, _ = finished
    path = tmp_path / "stories.txt"
    lines = ["Sara had a red ball. " * n for n in (1, 3, 200, 2)]
    texts = [line.strip() for line in lines]
    path.write_text("\n\n".join(texts))
    total = sum(len(text.encode()) + 1 for text in texts)
    found = run.evaluate(run.load(workdir / name, FAMILIES[name]), text_file=str(path))
    assert found["num_bytes"] == total and found["num_bytes_left_out"] == 0
    assert (found["num_documents"], found["num_cut_documents"]) == (4, 1)
    assert found["num_windows"] > cfg.evaluate.max_windows
    assert found["checkpoint"] == 12
    few = dataclasses.replace(cfg.evaluate, max_windows=2)
    found = run.evaluate(
        run.load(workdir / name, FAMILIES[name]), few, text_file=str(path)
    )
    assert found["num_bytes"] + found["num_bytes_left_out"] == total
    assert found["num_windows"] == 2 and found["num_bytes_left_out"] > 0


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_text_is_scored_through_windows_that_overlap(finished, name, tmp_path):
    """Each token once, whatever the stride, which is recorded; in a stream no document
    has an end. A stride of a whole window is none."""
    workdir, cfg, _ = finished
    model = run.load(workdir / name, FAMILIES[name])
    path = tmp_path / "stories.txt"
    path.write_text("\n\n".join(["Sara had a red ball. " * n for n in (3, 60, 2)]))
    settings = dataclasses.replace(
        run.evaluate_config(cfg.evaluate, str(path), stride=1), num_draws=2
    )
    plain = run.evaluate(model, settings, text_file=str(path))
    assert (plain["windows"], plain["stride"]) == ("document", 0)
    for stride in (50, 128):
        found = run.evaluate(model, settings, text_file=str(path), stride=stride)
        assert found["stride"] == stride and found["num_bytes_left_out"] == 0
        for same in ("num_tokens", "num_bytes", "num_words", "num_cut_documents"):
            assert found[same] == plain[same], same
        is_same = found["nats_per_token"] == plain["nats_per_token"]
        assert is_same == (stride == 128)
    in_stream = run.evaluate(
        model, settings, text_file=str(path), windows="stream", stride=50
    )
    assert in_stream["num_tokens"] == plain["num_tokens"] - 3  # ends of documents
    assert in_stream["windows"] == "stream"
    assert in_stream["num_words"] == plain["num_words"] == 5 * (3 + 60 + 2)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("stride", [0, 50])
def test_scores_of_documents_add_up(finished, name, stride, tmp_path):
    """To the score of the same call, in nats, tokens and bytes; and a document's score
    is that of a file which holds it alone."""
    workdir, cfg, _ = finished
    model = run.load(workdir / name, FAMILIES[name])
    texts = [("Sara had a red ball. " * n).strip() for n in (3, 60, 2)]
    path = tmp_path / "stories.txt"
    path.write_text("\n\n".join(texts))
    settings = run.evaluate_config(cfg.evaluate, str(path), stride=1)

    def evaluate(text_file):
        return run.evaluate(
            model, settings, text_file=text_file, stride=stride, per_document=True
        )

    found = evaluate(str(path))
    lines = found["documents"]
    total = found["nats_per_token"] * found["num_tokens"]
    assert sum(line["nats"] for line in lines) == pytest.approx(total)
    assert [line["index"] for line in lines] == [0, 1, 2]
    assert [line["text"] for line in lines] == [text[:40] for text in texts]
    assert [line["num_bytes"] for line in lines] == [len(text) + 1 for text in texts]
    assert sum(line["num_tokens"] for line in lines) == found["num_tokens"]
    is_bound = FAMILIES[name].is_bound
    assert all(line["is_bound"] == is_bound for line in lines)
    assert all(("standard_error" in line) == is_bound for line in lines)
    path.write_text(texts[0])
    (alone,) = evaluate(str(path))["documents"]
    assert alone["nats"] == pytest.approx(lines[0]["nats"], rel=1e-5)


def test_scores_of_held_out_windows_add_up(finished):
    """Without a text file, a line is a window of the run."""
    workdir, cfg, _ = finished
    model = run.load(workdir / "ar", FAMILIES["ar"])
    found = run.evaluate(model, per_document=True)
    lines = found["documents"]
    assert [line["nats"] for line in lines] == pytest.approx(found["window_nats"])
    assert len(lines) == cfg.evaluate.max_windows
    assert sum(line["num_bytes"] for line in lines) == found["num_bytes"]
    text = model.run.tokenizer.decode(model.run.valid[0])
    assert lines[0]["text"] == text[:40]


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"stride": 129}, "stride=129 must lie between 0 and 128"),
        ({"stride": -1}, "stride=-1 must lie between 0 and 128"),
        ({"windows": "page"}, "windows='page' is unknown: choose 'document'"),
        ({"stride": 4, "text_file": ""}, "pass --text_file=FILE"),
    ],
)
def test_windows_that_make_no_sense_are_refused(finished, options, sentence):
    """By the value and the rule."""
    model = run.load(finished[0] / "ar", FAMILIES["ar"])
    with pytest.raises(ValueError, match=sentence):
        run.evaluate(model, **{"text_file": __file__, **options})


def test_the_likelihood_of_a_sampler_is_that_of_its_samples(finished):
    """Exact for a sampler with an order of its own, equal for AR to the chain rule, and
    a bound, with its number of draws, where the order is random."""
    workdir, cfg, _ = finished
    few = dataclasses.replace(cfg.evaluate, max_windows=3, num_orders=4)
    full = run.load(workdir / "ar", FAMILIES["ar"])
    chain = run.evaluate(
        full, dataclasses.replace(few, max_windows=0, detail_windows=0)
    )
    nats = [
        n
        for n, tokens in zip(chain["window_nats"], chain["window_tokens"], strict=True)
        if tokens == cfg.model.length
    ][:3]
    found = run.evaluate(full, few, sampler=SampleConfig(sampler="left_to_right"))
    np.testing.assert_allclose(found["window_nats"], nats, rtol=1e-5)
    assert (found["kind"], found["nfe"]) == ("exact", cfg.model.length)
    model = run.load(workdir / "mdlm", FAMILIES["mdlm"])
    settings = SampleConfig(sampler="spread", num_steps=4)
    exact = run.evaluate(model, few, sampler=settings)
    assert (exact["kind"], exact["nfe"], exact["num_impossible"]) == ("exact", 4.0, 0)
    assert exact["settings"]["grid"] == "cosine" and "num_samples" not in exact
    greedy = run.evaluate(
        model, few, sampler=dataclasses.replace(settings, temperature=0.0)
    )
    assert greedy["num_impossible"] == 3 and greedy["nats_per_token"] is None
    bound = run.evaluate(model, few, sampler=SampleConfig(sampler="first_hitting"))
    assert (bound["kind"], bound["num_orders"]) == ("bound", 4)
    assert bound["nelbo"] >= bound["nats_per_token"] > 0.0
    assert bound["certified"] > bound["nats_per_token"] and bound["lower"] is None
    with pytest.raises(ValueError, match="'remdm_cap' masks tokens again"):
        run.evaluate(model, few, sampler=SampleConfig(sampler="remdm_cap"))
    with pytest.raises(ValueError, match="leave out stride"):
        run.evaluate(model, few, stride=1, text_file=__file__, sampler=settings)


def test_infilling_keeps_the_given_text(finished):
    """MDLM fills the gap; what was given stands as it was."""
    workdir, _, _ = finished
    cfg = SampleConfig(num_samples=2, batch_size=2, num_steps=4)
    samples, _ = run.sample(
        run.load(workdir / "mdlm", FAMILIES["mdlm"]),
        cfg,
        infill="Sara had a [3]. The end.",
    )
    for story in samples:
        assert story.text.startswith("Sara had a") and story.finished
        assert story.text.endswith(". The end.")


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_prompt_begins_every_story(finished, name):
    """Both families go on from the same words."""
    workdir, _, _ = finished
    cfg = SampleConfig(num_samples=2, batch_size=2, num_steps=4)
    samples, _ = run.sample(
        run.load(workdir / name, FAMILIES[name]), cfg, prompt="One day, Ben"
    )
    assert all(story.text.startswith("One day, Ben") for story in samples)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_samples_may_be_shorter_than_the_window(finished, name):
    """As long as they are asked for; a longer one than was trained on is refused."""
    workdir, _, _ = finished
    cfg = SampleConfig(num_samples=2, batch_size=2, num_steps=4, length=20)
    samples, _ = run.sample(run.load(workdir / name, FAMILIES[name]), cfg)
    assert [len(story.tokens) for story in samples] == [20, 20]
    cfg = dataclasses.replace(cfg, length=129)
    with pytest.raises(ValueError, match="length=129 is longer than the window"):
        run.sample(run.load(workdir / name, FAMILIES[name]), cfg)


def test_other_config_and_other_family_are_refused(finished, cache_dir):
    """The directory says what it holds, and the error names the field or the family."""
    workdir, cfg, _ = finished
    other = Config(**{**vars(cfg), "seed": 1})
    with pytest.raises(ValueError, match="seed=0, not 1"):
        run.train(FAMILIES["ar"], other, workdir / "ar")
    with pytest.raises(ValueError, match="family 'ar', not 'mdlm'"):
        run.evaluate(run.load(workdir / "ar", FAMILIES["mdlm"]))
    with pytest.raises(ValueError, match="no run directory"):
        run.evaluate(run.load(workdir / "nowhere", FAMILIES["ar"]))


def test_whatever_changes_the_model_is_refused():
    """Every field of the sections of training is compared, but for these six."""
    may_differ = {
        "data.cache_dir",
        "data.train_files",
        "data.valid_files",
        "train.accumulation",
        "train.fsdp_devices",
        "train.sample_every",
    }
    for family in FAMILIES.values():
        cfg = Config().of_family(family.name).to_dict()
        for section in ("data", "model", "optimizer", "train", family.name):
            for field, value in cfg.get(section, {}).items():
                name = f"{section}.{field}"
                found = list(run._differing(name, value, [value]))
                expected = [f"{name}={value!r}, not {[value]!r}"]
                assert found == ([] if name in may_differ else expected)
