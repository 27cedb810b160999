"""The whole path, from flags to report, at toy size."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ar_jax
import mdlm_jax
from experiments import cells
from experiments.compare import compare
from experiments.families import own_configs
from lm_jax import app, run_directory
from lm_jax.config import (
    Config,
    DataConfig,
    EvaluateConfig,
    FrontierConfig,
    ModelConfig,
    OptimizerConfig,
    ReportConfig,
    SampleConfig,
    TrainConfig,
)
from lm_jax.data import storyworld
from lm_jax.report.page import to_markdown
from lm_jax.sampling.playback import END
from lm_jax.sampling.text import read_samples
from lm_jax.training import loop

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = {"ar": ar_jax.language_model, "mdlm": mdlm_jax.language_model}


def toy(cache_dir: Path) -> Config:
    return Config(
        data=DataConfig(
            num_stories=150, num_valid_stories=24, cache_dir=str(cache_dir)
        ),
        model=ModelConfig(
            length=128,
            vocab_size=1_000,
            width=16,
            num_layers=1,
            num_heads=2,
            ffn_width=32,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2),
        train=TrainConfig(
            num_steps=12,
            batch_size=8,
            log_every=4,
            eval_every=6,
            eval_windows=8,
            eval_draws=2,
            save_every=4,
        ),
        sample=SampleConfig(num_samples=6, batch_size=4, num_steps=4),
        evaluate=EvaluateConfig(max_windows=8, num_draws=4, batch_size=8),
        report=ReportConfig(num_played=2, infill="Sara had [9] a [3]. The end."),
    )


def flags_of(cfg: Config) -> list[str]:
    """The flags that turn the default config into this one."""
    return [
        f"--config.{section}.{field}={value}"
        for section, fields in cfg.to_dict().items()
        if isinstance(fields, dict)
        for field, value in fields.items()
        if value != ""
    ]


@pytest.fixture(scope="session")
def finished(cache_dir, tmp_path_factory):
    """(directory, config, results) of a toy comparison."""
    workdir, cfg = tmp_path_factory.mktemp("compare"), toy(cache_dir)
    return workdir, cfg, compare(cfg, workdir, command="test")


def test_comparison_fills_its_directory(finished):
    """Every file of DESIGN's run directory is there and says what it should."""
    workdir, cfg, results = finished
    assert json.loads((workdir / "results.json").read_text()) == results
    assert Config.from_dict(json.loads((workdir / "config.json").read_text())) == cfg
    for name in FAMILIES:
        run = workdir / name
        assert (run / "tokenizer.model").exists() and (run / "checkpoints").is_dir()
        assert list(run.glob("events.*"))
        lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
        curve = [line for line in lines if line["split"] == "validation"]
        assert [line["step"] for line in curve] == [0, 6, 12]
        assert curve[-1]["nats_per_token"] < curve[0]["nats_per_token"]
        assert len(read_samples(run / "samples.jsonl")) == 6


def test_both_families_are_scored_on_the_same_tokens(finished):
    """Equal token counts, byte counts and windows; only MDLM's score is a bound."""
    ar, mdlm = (finished[2]["families"][name] for name in ("ar", "mdlm"))
    for field in ("num_tokens", "num_bytes", "num_windows"):
        assert ar["likelihood"][field] == mdlm["likelihood"][field]
    assert (ar["is_bound"], mdlm["is_bound"]) == (False, True)
    assert (
        ar["likelihood"]["standard_error"] == 0 < mdlm["likelihood"]["standard_error"]
    )
    assert ar["training"]["num_tokens"] == mdlm["training"]["num_tokens"]
    extra = mdlm["num_time_embedding_params"]
    assert extra == 16 * 16 + 16
    assert ar["num_params"] == mdlm["num_params"] - extra


def test_known_entropy_is_the_floor(finished):
    """The grammar's own nats per token lie below both models' and above nothing."""
    corpus = finished[2]["corpus"]
    assert corpus["entropy"]["nats_per_story"] == storyworld.entropy()
    floor = corpus["entropy"]["nats_per_token"]
    for part in finished[2]["families"].values():
        assert 0.2 < floor < part["likelihood"]["nats_per_token"]
        divergence = part["grammar"]["forward_kl_per_token"]
        gap = part["likelihood"]["nats_per_token"] - floor
        assert 0.0 < divergence["low"] < divergence["high"]
        np.testing.assert_allclose(divergence["value"], gap, rtol=0.2)


def test_human_stories_are_measured_alike(finished):
    """The human row has the same measures, on as many stories, all grammatical."""
    results = finished[2]
    human = results["human"]
    for part in results["families"].values():
        assert part["num_stories"] == human["num_stories"] == 6
        for table in ("diversity", "openings", "fluency"):
            assert part[table].keys() == human[table].keys()
    assert human["fluency"]["accepted_share"]["value"] == 1.0
    assert human["fluency"]["known_word_share"]["value"] > 0.9


def test_what_the_player_plays_is_what_was_written(finished):
    """Every trace of results.json ends with its sample, after as many calls."""
    workdir, cfg, results = finished
    for name, part in results["families"].items():
        stories = read_samples(workdir / name / "samples.jsonl")
        assert len(part["traces"]) == cfg.report.num_played == 2
        played = [*zip(part["traces"], stories, strict=False)]
        gaps = part["infills"]
        assert len(gaps) == (2 if name == "mdlm" else 0)
        if gaps:
            played += zip(
                gaps, read_samples(workdir / name / "infills.jsonl"), strict=True
            )
        for trace, story in played:
            pieces = list(trace["given"])
            for _, position, piece in trace["events"]:
                assert trace["given"][position] is None
                pieces[position] = piece
            shown = "".join(itertools.takewhile(lambda piece: piece != END, pieces))
            assert shown == trace["text"] == story.text
            steps = {step for step, _, piece in trace["events"] if piece is not None}
            assert trace["num_calls"] == story.num_calls >= len(steps)
        for trace in gaps:
            assert trace["text"].startswith("Sara had")
            assert trace["text"].endswith("The end.")
    orders = [part["order"] for part in results["families"].values()]
    assert orders[0]["kendall_tau"]["value"] == 1.0
    assert abs(orders[1]["kendall_tau"]["value"]) < 0.3
    assert orders[1]["tokens_per_call"]["value"] > 10  # 128 tokens in 4 steps


def test_second_call_repeats_nothing(finished, monkeypatch):
    """No training, no sampling and no scoring; the same numbers."""
    workdir, cfg, results = finished
    for name in ("sample", "evaluate"):
        monkeypatch.setattr(app, name, None)  # to call it would be a TypeError
    monkeypatch.setattr(loop, "train", None)
    assert compare(cfg, workdir, command="test") == results


def test_missing_part_is_made_again_and_is_the_same(finished):
    """Deleted samples are drawn again, token for token."""
    workdir, cfg, _ = finished
    path = workdir / "mdlm" / "samples.jsonl"
    before = path.read_text()
    (workdir / "mdlm" / "sampling.json").unlink()
    compare(cfg, workdir, command="test")
    assert path.read_text() == before


@pytest.mark.slow
def test_comparison_with_seeds_frontier_and_judge(finished, tmp_path, monkeypatch):
    """Asked for later, they are added; a further call repeats nothing of them."""
    workdir, cfg, _ = finished
    path = shutil.copytree(workdir, tmp_path / "run")
    cfg = replace(
        cfg,
        num_seeds=2,
        evaluate=replace(cfg.evaluate, judge_steps=4, num_resamples=20),
        frontier=FrontierConfig(
            num_samples=3, temperatures="0.5", top_ps="", num_steps=""
        ),
    )
    results = compare(cfg, path, command="test")
    assert results is not None
    assert (path / "seed_1" / "mdlm" / "samples.jsonl").exists()
    assert results["seeds"]["seeds"] == [0, 1]
    for points in results["frontier"]["families"].values():
        names = [point["setting"] for point in points]
        assert names == ["base", "temperature=0.5", "sampler=careful"]
        assert all(len(point["samples"]) == 3 for point in points)
    assert not (path / "ar" / "frontier" / "base.jsonl").exists()  # written already
    for part in (*results["families"].values(), results["human"]):
        assert part["fluency"]["judge_bits_per_byte"]["value"] > 0.0
        assert part["num_words"] == results["human"]["num_words"]
    text = to_markdown(results)
    for caption in ("Over training seeds", "Quality, variety", "number of draws"):
        assert caption in text
    for name in ("sample", "evaluate"):
        monkeypatch.setattr(app, name, None)  # to call it would be a TypeError
    monkeypatch.setattr(loop, "train", None)
    assert compare(cfg, path, command="test") == results


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_text_of_a_row_ignores_the_batch(finished, name):
    """Six samples in batches of two are those in batches of four."""
    workdir, cfg, _ = finished
    small = SampleConfig(**{**vars(cfg.sample), "batch_size": 2})
    samples, _ = app.sample(FAMILIES[name], workdir / name, small, seed=cfg.seed)
    stored = read_samples(workdir / name / "samples.jsonl")
    assert [s.tokens for s in samples] == [s.tokens for s in stored]


def test_a_sampler_of_one_family_leaves_the_other_at_its_default(cache_dir):
    """One name serves both; a name that nobody knows is refused with all names."""

    def sampler(name):
        cfg = dataclasses.replace(toy(cache_dir), sample=SampleConfig(sampler=name))
        return {label: own.sample.sampler for label, own in own_configs(cfg).items()}

    assert sampler("margin") == {"AR": "", "MDLM": "margin"}
    assert sampler("left_to_right") == {"AR": "left_to_right", "MDLM": ""}
    assert sampler("study") == {"AR": "study", "MDLM": "study"}
    with pytest.raises(ValueError, match="'beam'.*left_to_right.*AR.*ancestral.*MDLM"):
        sampler("beam")


def test_runs_of_the_first_version_can_be_read(tmp_path):
    """They name a rule: the default one is the default sampler of either family."""
    for rule, sampler in (("ancestral", ""), ("confidence", "confidence")):
        values = Config().to_dict()
        del values["sample"]["sampler"], values["sample"]["eta"]
        values["sample"]["rule"] = rule
        run_directory.write_json(tmp_path / "config.json", values)
        cfg = run_directory.read_config(tmp_path)
        assert cfg == Config(sample=SampleConfig(sampler=sampler))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_an_unknown_sampler_is_named_before_training(name, cache_dir, tmp_path):
    """Not hours later, when the first sample is drawn."""
    cfg = dataclasses.replace(toy(cache_dir), sample=SampleConfig(sampler="beam"))
    with pytest.raises(ValueError, match="sampler='beam' is unknown: choose one of"):
        app.train(FAMILIES[name], cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluation_of_a_text_file(finished, tmp_path):
    """Any text, in the units of bytes; the held-out stories score as themselves."""
    workdir, _, _ = finished
    path = tmp_path / "story.txt"
    text = "Once upon a time, there was a kind girl named Sara."
    path.write_text(text)
    scores = app.evaluate(FAMILIES["ar"], workdir / "ar", text_file=str(path))
    assert scores["num_bytes"] == len(text) + 1  # the end of the story counts as one
    assert scores["num_windows"] == 1
    bits = scores["nats_per_token"] * scores["num_tokens"] / np.log(2)
    np.testing.assert_allclose(scores["bits_per_byte"], bits / scores["num_bytes"])


def test_infilling_keeps_the_given_text(finished):
    """MDLM fills the gap; what was given stands as it was."""
    workdir, _, _ = finished
    cfg = SampleConfig(num_samples=2, batch_size=2, num_steps=4)
    samples, _ = app.sample(
        FAMILIES["mdlm"], workdir / "mdlm", cfg, infill="Sara had a [3]. The end."
    )
    for story in samples:
        assert story.text.startswith("Sara had a") and story.finished
        assert story.text.endswith(". The end.")


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_prompt_begins_every_story(finished, name):
    """Both families go on from the same words."""
    workdir, _, _ = finished
    cfg = SampleConfig(num_samples=2, batch_size=2, num_steps=4)
    samples, _ = app.sample(FAMILIES[name], workdir / name, cfg, prompt="One day, Ben")
    assert all(story.text.startswith("One day, Ben") for story in samples)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_samples_may_be_shorter_than_the_window(finished, name):
    """As long as they are asked for; a longer one than was trained on is refused."""
    workdir, _, _ = finished
    cfg = SampleConfig(num_samples=2, batch_size=2, num_steps=4, length=20)
    samples, _ = app.sample(FAMILIES[name], workdir / name, cfg)
    assert [len(story.tokens) for story in samples] == [20, 20]
    cfg = dataclasses.replace(cfg, length=129)
    with pytest.raises(ValueError, match="length=129 is longer than the window"):
        app.sample(FAMILIES[name], workdir / name, cfg)


def test_other_config_and_other_family_are_refused(finished, cache_dir):
    """The directory says what it holds, and the error names the field or the family."""
    workdir, cfg, _ = finished
    other = Config(**{**vars(cfg), "seed": 1})
    with pytest.raises(ValueError, match="seed=0, not 1"):
        app.train(FAMILIES["ar"], other, workdir / "ar")
    with pytest.raises(ValueError, match="family 'ar', not 'mdlm'"):
        app.evaluate(FAMILIES["mdlm"], workdir / "ar")
    with pytest.raises(ValueError, match="no run directory"):
        app.evaluate(FAMILIES["ar"], workdir / "nowhere")


def command(*arguments: str, **kwargs) -> subprocess.Popen:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], env=environment, cwd=ROOT, **pipes, **kwargs
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--config.model.widht=64"], ["widht"]),
        (["--config.train.num_steps=many"], ["num_steps", "many"]),
        (["--config.model.width=30"], ["width=30", "num_heads"]),
        (["--config.model.schedule=sine"], ["schedule='sine'", "cosine"]),
        (["--config.data.corpus=text"], ["--config.data.train_files"]),
        (["--config=nowhere.py"], ["nowhere.py"]),
        (["surplus"], ["surplus"]),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(arguments, words, tmp_path):
    """No traceback, no half-written directory."""
    workdir = tmp_path / "run"
    done = command("experiments.compare", f"--workdir={workdir}", *arguments)
    _, errors = done.communicate(timeout=120)
    assert done.returncode == 2, errors
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert all(word in last for word in words), errors
    assert not workdir.exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_comparison_goes_on_to_the_same_numbers(finished, number, tmp_path):
    """kill -9 between two saves, or SIGTERM: run again, and it ends the same."""
    _, cfg, _ = finished
    arguments = ["experiments.compare", f"--workdir={tmp_path}", *flags_of(cfg)]
    whole = command(*arguments[:1], f"--workdir={tmp_path / 'whole'}", *arguments[2:])
    _, errors = whole.communicate(timeout=600)
    assert whole.returncode == 0, errors
    killed = command(*arguments)
    metrics = tmp_path / "mdlm" / "metrics.jsonl"
    while not metrics.exists() or '"step": 4' not in metrics.read_text():
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.02)
    killed.send_signal(number)
    killed.communicate(timeout=120)
    assert killed.returncode == (0 if number == signal.SIGTERM else -number)
    assert not (tmp_path / "results.json").exists()
    resumed = command(*arguments)
    _, errors = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, errors
    one, other = (
        json.loads((path / "results.json").read_text())
        for path in (tmp_path, tmp_path / "whole")
    )
    for name in FAMILIES:
        a, b = (results["families"][name] for results in (one, other))
        assert a["samples"] == b["samples"]
        assert a["likelihood"] == b["likelihood"]
        for x, y in zip(a["curve"], b["curve"], strict=True):
            assert (x["step"], x["nats_per_token"]) == (y["step"], y["nats_per_token"])


@pytest.mark.slow
def test_a_comparison_as_published_has_finite_numbers(cache_dir, tmp_path):
    """Stream windows, a chunk split, an untied head for MDLM alone, its own samplers.

    The grammar cannot say what a window costs that begins in mid-story, and the report
    is written without it.
    """
    cfg = cells.changed(
        toy(cache_dir),
        {
            "unequal": "mdlm.model.tied_head=False",
            "data.windows": "stream",
            "data.split": "chunk",
            "model.objective": "token_mean",
            "model.schedule": "study",
            "model.times": "independent",
            "model.mark_start": False,
            "sample.sampler": "study",
            "sample.length": 64,
            "evaluate.detail_windows": 4,
        },
    )
    results = compare(cfg, tmp_path, command="test")
    assert results is not None
    text = to_markdown(results).replace("\\", "")  # which keeps Markdown from emphasis
    assert "mdlm.model.tied_head=False" in text
    ar, mdlm = (results["families"][name] for name in ("ar", "mdlm"))
    assert ar["num_params"] < mdlm["num_params"] - mdlm["num_time_embedding_params"]
    assert all(text.startswith("Once") for text in ar["samples"])
    assert "nats_per_token" not in results["corpus"]["entropy"]
