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

import numpy as np
import pytest
from checkout import ROOT
from tiny_configs import FAMILIES, flags_of, toy

from experiments import sweep
from experiments.compare.comparison import compare
from experiments.compare.results import read_training
from experiments.compare.samples import drawn
from experiments.families import own_configs
from experiments.report.html import to_markdown
from lm_jax import devices, files, run
from lm_jax.config import (
    Config,
    FrontierConfig,
    SampleConfig,
)
from lm_jax.data import storyworld
from lm_jax.sampling.samples_file import read_samples
from lm_jax.sampling.trace import END
from lm_jax.training import loop


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
        assert len(read_samples(run / "comparison" / "samples.jsonl")) == 6


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


def test_exact_values_of_both_families_are_of_the_same_windows(finished):
    """AR's chain rule and MDLM's better sampler, on the first four full windows."""
    workdir, cfg, results = finished
    ar, mdlm = (results["families"][name] for name in ("ar", "mdlm"))
    scored = mdlm["likelihood"]["samplers"]
    assert list(scored) == ["spread@4", "spread@2"]
    few = replace(cfg.evaluate, max_windows=4)
    model = run.load(workdir / "mdlm", FAMILIES["mdlm"])
    for name, found in scored.items():
        sampler = replace(cfg.sample, sampler="spread", num_steps=int(name[-1]))
        again = run.evaluate(model, few, sampler=sampler)
        assert found["kind"] == "exact" and found["nfe"] == sampler.num_steps
        assert found["nats_per_token"] == pytest.approx(again["nats_per_token"])
    best = min(scored, key=lambda name: scored[name]["nats_per_token"])
    assert mdlm["exact_of"] == {"sampler": best, "num_windows": 4}
    assert ar["exact_of"] == {"sampler": "", "num_windows": 4}
    windows = scored[best]["windows"]
    per_token = [
        np.sum(nats) / (4 * cfg.model.length)
        for nats in (
            np.array(ar["likelihood"]["window_nats"])[windows],
            scored[best]["window_nats"],
        )
    ]
    for part, value in zip((ar, mdlm), per_token, strict=True):
        assert part["exact"]["nats_per_token"]["value"] == pytest.approx(value)
    gap = results["differences"]["exact"]["mdlm"]
    assert gap["value"] == pytest.approx(per_token[1] - per_token[0])
    assert gap["low"] <= gap["value"] <= gap["high"]


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
        stories = read_samples(workdir / name / "comparison" / "samples.jsonl")
        assert len(part["traces"]) == cfg.report.num_played == 2
        played = [*zip(part["traces"], stories, strict=False)]
        gaps = part["infills"]
        assert len(gaps) == (2 if name == "mdlm" else 0)
        if gaps:
            played += zip(
                gaps,
                read_samples(workdir / name / "comparison" / "infills.jsonl"),
                strict=True,
            )
        for trace, story in played:
            pieces = list(trace["given"])
            for _, position, piece in trace["events"]:
                assert trace["given"][position] is None
                pieces[position] = piece
            shown = "".join(itertools.takewhile(lambda piece: piece != END, pieces))
            assert shown == trace["text"] == story.text
            steps = {step for step, _, piece in trace["events"] if piece is not None}
            assert trace["nfe"] == story.nfe >= len(steps)
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
        monkeypatch.setattr(run, name, None)  # to call it would be a TypeError
    monkeypatch.setattr(loop, "train", None)
    assert compare(cfg, workdir, command="test") == results


def test_a_comparison_owns_its_samples(finished):
    """Neither samples beside it nor samples in its place change a number of it."""
    workdir, cfg, results = finished
    ar, own = workdir / "ar", workdir / "ar" / "comparison" / "samples.jsonl"
    before = own.read_bytes()
    other = dataclasses.replace(cfg.sample, num_samples=9)
    for out in (ar / "samples.jsonl", own):
        run.sample(
            run.load(ar, FAMILIES["ar"]),
            other,
            prompt="One day, a kind",
            out=out,
            overwrite=True,
            trace=True,
        )
        assert own.read_bytes() == before or out == own
        again = compare(cfg, workdir, command="test")
        assert again is not None and own.read_bytes() == before
        assert (
            again["families"]["ar"]["openings"]
            == (results["families"]["ar"]["openings"])
        )
    (ar / "samples.jsonl").unlink()


def test_samples_of_another_run_are_not_taken(finished, tmp_path):
    """A record and its file may come from elsewhere and fit each other, the settings
    and the step: the checkpoint tells."""
    workdir, cfg, results = finished
    path = shutil.copytree(workdir, tmp_path / "run")
    other = dataclasses.replace(cfg, seed=1)
    run.train(FAMILIES["ar"], other, tmp_path / "other")
    drawn(
        FAMILIES["ar"],
        tmp_path / "other",
        "samples",
        cfg.sample,
        seed=0,
        which="latest",
        trace=True,
    )
    for name in ("samples.jsonl", "samples.json"):
        theirs = tmp_path / "other" / "comparison" / name
        shutil.copy(theirs, path / "ar" / "comparison" / name)
    again = compare(cfg, path, command="test")
    assert again is not None
    assert again["families"]["ar"]["samples"] == results["families"]["ar"]["samples"]


def test_a_comparison_may_be_about_another_checkpoint(finished, tmp_path):
    """Its samples and scores are those of the parameters of that step."""
    workdir, cfg, results = finished
    path = shutil.copytree(workdir, tmp_path / "run")
    of_early = replace(cfg, evaluate=replace(cfg.evaluate, checkpoint="8"))
    early = compare(of_early, path, command="test")
    assert early is not None
    for name, family in FAMILIES.items():
        model = run.load(path / name, family, 8)
        found = early["families"][name]["likelihood"]
        assert found["checkpoint"] == 8 != results["families"][name]["likelihood"]
        scores = run.evaluate(model, of_early.evaluate)
        assert found["nats_per_token"] == scores["nats_per_token"]
        assert (
            found["nats_per_token"]
            > results["families"][name]["likelihood"]["nats_per_token"]
        )
        texts, _ = run.sample(model, cfg.sample, seed=cfg.seed)
        assert early["families"][name]["samples"] == [s.text for s in texts]
    with pytest.raises(ValueError, match="no checkpoint '7': choose"):
        compare(replace(cfg, evaluate=replace(cfg.evaluate, checkpoint="7")), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + '{"split": "tra\n',
        lambda text: "".join(text.splitlines(keepends=True)[:-1]),
        lambda text: "",
    ],
)
def test_a_damaged_learning_curve_is_named(finished, tmp_path, change):
    """A line that is no JSON, and lines that are missing at the end."""
    path = shutil.copytree(finished[0] / "ar", tmp_path / "ar")
    metrics = path / "metrics.jsonl"
    assert read_training(path)["curve"][-1]["step"] == 12
    metrics.write_text(change(metrics.read_text()))
    with pytest.raises(ValueError, match="metrics.jsonl is damaged: .*from a copy"):
        read_training(path)


def test_missing_part_is_made_again_and_is_the_same(finished):
    """Deleted samples are drawn again, token for token."""
    workdir, cfg, _ = finished
    path = workdir / "mdlm" / "comparison" / "samples.jsonl"
    before = path.read_text()
    (workdir / "mdlm" / "comparison" / "samples.json").unlink()
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
            num_samples=3,
            num_windows=2,
            temperatures=(0.5,),
            top_ps=(),
            num_steps=(),
            samplers=("low_temperature", "vicentino2026"),
        ),
    )
    results = compare(cfg, path, command="test")
    assert results is not None
    assert (path / "seed_1" / "mdlm" / "comparison" / "samples.jsonl").exists()
    assert results["seeds"]["seeds"] == [0, 1]
    for points in results["frontier"]["families"].values():
        names = [point["setting"] for point in points]
        others = ["sampler=low_temperature", "sampler=vicentino2026"]
        assert names == ["base", "temperature=0.5", *others]
        assert all(len(point["samples"]) == 3 for point in points)
    kinds = {
        name: [point["likelihood"].get("kind", "refused") for point in points]
        for name, points in results["frontier"]["families"].items()
    }
    assert kinds["ar"] == ["exact"] * 4
    assert kinds["mdlm"] == ["bound", "bound", "exact", "refused"]
    assert not (path / "ar" / "frontier" / "base.jsonl").exists()  # written already
    for part in (*results["families"].values(), results["human"]):
        assert part["fluency"]["judge_bits_per_byte"]["value"] > 0.0
        assert part["num_words"] == results["human"]["num_words"]
    text = to_markdown(results)
    captions = ("Over training seeds", "Quality, variety", "number of draws")
    for caption in (*captions, "Likelihood of the samplers", "certified ≤"):
        assert caption in text
    for name in ("sample", "evaluate"):
        monkeypatch.setattr(run, name, None)  # to call it would be a TypeError
    monkeypatch.setattr(loop, "train", None)
    assert compare(cfg, path, command="test") == results


def test_a_sampler_of_one_family_leaves_the_other_at_its_default(cache_dir):
    """One name serves both; a name that nobody knows is refused with all names."""

    def sampler(name):
        cfg = dataclasses.replace(toy(cache_dir), sample=SampleConfig(sampler=name))
        return {label: own.sample.sampler for label, own in own_configs(cfg).items()}

    assert sampler("margin") == {"AR": "", "MDLM": "margin"}
    assert sampler("left_to_right") == {"AR": "left_to_right", "MDLM": ""}
    assert sampler("vicentino2026") == {"AR": "vicentino2026", "MDLM": "vicentino2026"}
    with pytest.raises(ValueError, match="'beam'.*left_to_right.*AR.*ancestral.*MDLM"):
        sampler("beam")


def command(*arguments: str, **environment: str) -> subprocess.Popen:
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=os.environ | environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--config.model.widht=64"], ["widht"]),
        (["--config.train.num_steps=many"], ["num_steps", "many"]),
        (["--config.model.width=30"], ["width=30", "num_heads"]),
        (["--config.mdlm.schedule=sine"], ["schedule='sine'", "cosine"]),
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
@pytest.mark.parametrize(
    "number, is_job, status",
    [
        (signal.SIGKILL, False, -signal.SIGKILL),
        (signal.SIGKILL, True, 2),
        (signal.SIGTERM, False, 0),
    ],
)
def test_killed_comparison_goes_on_to_the_same_numbers(
    finished, number, is_job, status, tmp_path
):
    """Both families side by side: kill -9 of the command or of one of its jobs, or
    SIGTERM. Run again, it ends with the numbers of runs in turn, one thread each."""
    _, cfg, _ = finished
    arguments = ["experiments.compare", f"--workdir={tmp_path}", *flags_of(cfg)]
    in_turn = [f"--workdir={tmp_path / 'whole'}", "--jobs=1", *arguments[2:]]
    one_thread = {"NPROC": "1"} if devices.num_threads() == 2 else {}
    whole = command(*arguments[:1], *in_turn, **one_thread)
    _, errors = whole.communicate(timeout=600)
    assert whole.returncode == 0, errors
    arguments.append("--jobs=2")
    killed = command(*arguments)
    metrics = tmp_path / "mdlm" / "metrics.jsonl"
    while not metrics.exists() or '"step": 4' not in metrics.read_text():
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.02)
    lock = tmp_path / "mdlm" / files.LOCK
    os.kill(int(lock.read_text().split()[1]) if is_job else killed.pid, number)
    _, errors = killed.communicate(timeout=120)
    assert killed.returncode == status, errors
    assert not is_job or "error: the process of mdlm ended with signal 9" in errors
    assert not (tmp_path / "results.json").exists()
    for path in (tmp_path / "ar", tmp_path / "mdlm"):  # jobs save and end
        with (path / files.LOCK).open("a+") as file:
            while not files.lock(file):
                time.sleep(0.02)
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
    cfg = sweep.replace_fields(
        toy(cache_dir),
        {
            "family_overrides": {"mdlm": {"tied_head": False}},
            "data.windows": "stream",
            "data.split": "chunk",
            "mdlm.objective": "token_mean",
            "mdlm.schedule": "cos_squared",
            "mdlm.times": "independent",
            "mdlm.bos_at_start": False,
            "sample.sampler": "vicentino2026",
            "sample.length": 64,
            "evaluate.detail_windows": 4,
        },
    )
    results = compare(cfg, tmp_path, command="test")
    assert results is not None
    text = to_markdown(results).replace("\\", "")  # which keeps Markdown from emphasis
    assert "| mdlm | tied_head False |" in text
    ar, mdlm = (results["families"][name] for name in ("ar", "mdlm"))
    assert ar["num_params"] < mdlm["num_params"] - mdlm["num_time_embedding_params"]
    assert all(text.startswith("Once") for text in ar["samples"])
    assert "nats_per_token" not in results["corpus"]["entropy"]
