"""The plan of a comparison: what cannot work is told before anything is trained."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_configs import toy

from experiments import sweep
from experiments.compare import plan
from experiments.compare.comparison import compare, described
from experiments.compare.plan import resolve
from experiments.families import FAMILIES, own_configs
from lm_jax import run
from lm_jax.config import Config, SampleConfig
from lm_jax.data import dataset
from lm_jax.evaluation.ngrams import words
from lm_jax.sampling.templates import make_template
from lm_jax.types import MASK

WORDS = "the cat sat on a mat and saw Tom who had red balls he ran home".split()


def story(rng, num_words=20):
    return " ".join(rng.choice(WORDS, num_words)) + "."


@pytest.fixture
def own_text(tmp_path):
    """(text, changes) -> a toy config of the user's own text."""

    def config(text, changes=None):
        path = tmp_path / "stories.txt"
        path.write_bytes(text.encode())
        values = {
            "data.corpus": "text",
            "data.train_files": str(path),
            "model.vocab_size": 300,
            "report.infill": "auto",
        }
        return sweep.replace_fields(toy(tmp_path / "cache"), values | (changes or {}))

    return config


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sample.num_samples": 1}, "num_samples=1 must be at least 2 in a comparison"),
        ({"sample.sampler": "beam"}, "sampler='beam' is unknown"),
        ({"sample.length": 129}, "length=129 is longer than the window"),
        (
            {"sample.sampler": "blocks", "sample.block_sampler": "vicentino2026"},
            "block_sampler='vicentino2026' fills no block",
        ),
        (
            {"evaluate.samplers": "spread@-1"},
            "EvaluateConfig.samplers has 'spread@-1': write a number of steps after @",
        ),
        (
            {"evaluate.samplers": "remdm_cap@4"},
            "'remdm_cap' masks tokens again",
        ),
        (
            {"frontier.num_samples": 2, "frontier.samplers": "spread@many"},
            "has 'spread@many': write a number of steps after @",
        ),
        (
            {"frontier.num_samples": 2, "frontier.samplers": "carefull"},
            "names 'carefull', which no family knows: choose from .*margin",
        ),
        (
            {"frontier.num_samples": 2, "frontier.samplers": "blocks",
             "sample.block_sampler": "remdm_loop"},
            "block_sampler='remdm_loop' fills no block",
        ),
        ({"report.infill": "no gap"}, "'no gap' has no gap"),
        ({"report.infill": "Sara [400]."}, "takes .* tokens .* the window has 128"),
        ({"optimizer.warmup_steps": 100}, "warmup_steps=100 must be less"),
        ({"train.max_tokens": 5}, "max_tokens=5 does not pay for one step"),
        ({"evaluate.judge_steps": 2}, "warmup_steps=2 must be less .* 2 steps"),
        ({"evaluate.judge_files": "a.txt"}, "judge_files=.* is read by no judge"),
        (
            {"evaluate.judge": "runs/x", "evaluate.judge_steps": 9},
            "judge='runs/x' and judge_steps=9 are two judges: leave one out",
        ),
        ({"evaluate.judge": "no/such"}, "no/such"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_before_training(
    changes, message, cache_dir, tmp_path
):
    """One sentence, and no directory is claimed."""
    cfg = sweep.replace_fields(toy(cache_dir), changes)
    with pytest.raises(ValueError, match=message):
        compare(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "field, values",
    [
        ("temperatures", ("-1", "nan", "x")),
        ("top_ps", ("0", "1.5")),
        ("num_steps", ("-1", "2.5", "9e12")),
    ],
)
def test_values_of_a_frontier_have_ranges(field, values):
    """They are those of the sampler, and the field that was set is named."""
    for value in values:
        with pytest.raises(
            ValueError, match=f"(FrontierConfig|config.frontier).{field}"
        ):
            sweep.replace_fields(Config(), {f"frontier.{field}": value})


def test_a_judge_of_text_needs_text_of_its_own(own_text, tmp_path):
    """Missing files, and stories that the families have read."""
    rng = np.random.default_rng(0)
    text = "\n\n".join(story(rng) for _ in range(40))
    cfg = own_text(text, {"evaluate.judge_steps": 4})
    with pytest.raises(ValueError, match="judge_steps=4 needs text that no family"):
        resolve(cfg)
    named = {"evaluate.judge_files": str(tmp_path / "none.txt")}
    with pytest.raises(ValueError, match="none.txt does not exist: .*judge_files"):
        resolve(sweep.replace_fields(cfg, named))
    named = {"evaluate.judge_files": cfg.data.train_files}
    with pytest.raises(
        ValueError, match="documents of judge_files are in the training"
    ):
        resolve(sweep.replace_fields(cfg, named))


def test_a_resolved_plan_is_its_own_resolution(own_text):
    """The infill comes from held-out text, fits, and has a gap in its middle."""
    rng = np.random.default_rng(0)
    cfg = own_text("\n\n".join(story(rng) + r" [3] \[4]" for _ in range(60)))
    found = resolve(cfg)
    assert resolve(found) == found and found.report.infill != "auto"
    data = dataset.load(found)
    begin, _, end = found.report.infill.partition("[")
    (source,) = [t for t in data.valid_documents if t.startswith(begin.strip())]
    template = make_template(data.tokenizer, (1, 128), infill=found.report.infill)[0]
    (gap,) = [run for run in np.split(template, np.flatnonzero(np.diff(
        (template == MASK).astype(int))) + 1) if run[0] == MASK][:1]  # fmt: skip
    assert 0 < len(gap) < len(data.tokenizer.encode([source])[0])
    tokens = template[: np.flatnonzero(template != MASK)[-1]]
    assert data.tokenizer.decode(tokens[tokens != MASK]).endswith(r" [3] \[4]")


@pytest.mark.parametrize("alphabet", ["аеиоунстрвлкмдпя", "ابتثجحخدذرزسشصضطظعغ"])
def test_an_own_text_of_few_characters_is_fitted(own_text, alphabet):
    """Too large a vocabulary becomes the largest that the text allows."""
    rng = np.random.default_rng(0)
    lexicon = ["".join(rng.choice(list(alphabet), 4)) for _ in range(12)]
    text = "\n\n".join(" ".join(rng.choice(lexicon, 20)) for _ in range(40))
    found = resolve(own_text(text, {"model.vocab_size": 1_000}))
    assert 261 < found.model.vocab_size < 1_000
    assert found.data.windows == "document"


def test_an_own_text_of_many_characters_is_fitted(own_text):
    """2,000 ideographs in a vocabulary of 600: bytes spell the rare ones, and every
    text comes back."""
    rng = np.random.default_rng(0)
    shares = 1.0 / np.arange(1, 2_001)
    characters = [chr(0x4E00 + i) for i in range(2_000)]
    texts = [
        "".join(rng.choice(characters, 40, p=shares / shares.sum())) for _ in range(200)
    ]
    found = resolve(own_text("\n\n".join(texts), {"model.vocab_size": 600}))
    assert found.model.vocab_size == 600
    data = dataset.load(found)
    assert data.tokenizer.vocab_size == 600
    for text in texts[:20]:
        assert data.tokenizer.decode(data.tokenizer.encode([text])[0]) == text
    assert words(texts[0]) == list(texts[0])


def test_documents_longer_than_a_window_are_read_as_a_stream(own_text, capsys):
    """A novel without blank lines is one document: its end validates."""
    rng = np.random.default_rng(0)
    text = "\n".join(story(rng) for _ in range(600))
    found = resolve(own_text(text))
    assert found.data.windows == "stream"
    assert "This run uses data.windows=stream" in capsys.readouterr().err
    data = dataset.load(found)
    assert (len(data.train_documents), len(data.valid_documents)) == (1, 1)
    assert (
        f"{data.train_documents[0]}\n{data.valid_documents[0]}".split() == text.split()
    )


def test_too_little_held_out_text_is_no_row(own_text, tmp_path):
    """Ten documents hold out one: families are compared on all of their samples, and
    the report says that there is no column of human text."""
    rng = np.random.default_rng(0)
    cfg = own_text("\n\n".join(story(rng) for _ in range(10)))
    found = compare(cfg, tmp_path / "run", command="test")
    assert found is not None and found["human"] == {}
    for part in found["families"].values():
        assert part["num_stories"] == cfg.sample.num_samples
    from experiments.report.html import write_report

    write_report(found, tmp_path / "run")
    report = (tmp_path / "run" / "report.md").read_text()
    assert "too little held-out text for a column of its own" in report
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["report"]["infill"] != "auto"


def test_a_dry_run_says_what_would_be_done(cache_dir, tmp_path):
    text = described(resolve(toy(cache_dir)), tmp_path / "run")
    assert "ar, seed 0" in text and "12 steps of 8 windows, 12,288 tokens" in text
    lm = FAMILIES["AR"].make(own_configs(toy(cache_dir))["AR"])
    params = jax.tree.leaves(jax.eval_shape(lm.init, jax.random.key(0)))
    num_params = sum(leaf.size for leaf in params)
    assert f"{num_params:,} parameters" in text
    assert f"{12_288 * lm.flops_per_token:.1e} FLOPs" in text
    assert "nothing was trained" in text and not (tmp_path / "run").exists()


def test_too_few_held_out_texts_are_told_with_a_way_out(cache_dir, capsys):
    """Stories of the grammar come from no file."""
    resolve(sweep.replace_fields(toy(cache_dir), {"sample.num_samples": 90}))
    note = capsys.readouterr().err
    assert "24 held-out texts for 90 samples" in note
    assert "raise --config.data.num_valid_stories, or lower --config.sample" in note


def test_a_dry_run_refuses_the_directory_of_another_run(finished):
    workdir, cfg, _ = finished
    assert "12 steps" in described(resolve(cfg), workdir)
    changes = {"train.num_steps": 13, "optimizer.weight_decay": 0.5}
    other = sweep.replace_fields(cfg, changes)
    stored = cfg.optimizer.weight_decay
    with pytest.raises(
        ValueError,
        match=f"trained with optimizer.weight_decay={stored}, not 0.5; "
        "train.num_steps=12, not 13: name another --workdir",
    ):
        described(resolve(other), workdir)


def test_text_in_another_place_is_the_same_text(own_text, tmp_path):
    """Its fingerprint decides; so a run goes on where its text was moved."""
    rng = np.random.default_rng(0)
    cfg = own_text("\n\n".join(story(rng) for _ in range(40)))
    data = dataset.load(cfg)
    run.create(tmp_path / "run", "ar", cfg, data)
    moved = Path(*cfg.data.train_files).rename(tmp_path / "moved.txt")
    cfg = sweep.replace_fields(cfg, {"data.train_files": str(moved)})
    run.require_same(tmp_path / "run", "ar", cfg)
    run.require_same_text(tmp_path / "run", "ar", dataset.load(cfg))


def test_a_judge_s_text_is_tried_before_training(own_text, tmp_path):
    """The sentence is about the judge, not about the families."""
    rng = np.random.default_rng(0)
    (tmp_path / "judge.txt").write_text("A")
    changes = {
        "evaluate.judge_steps": 4,
        "evaluate.judge_files": str(tmp_path / "judge.txt"),
    }
    cfg = own_text("\n\n".join(story(rng) for _ in range(40)), changes)
    with pytest.raises(
        ValueError, match="judge_files=.*cannot train a judge.*more text"
    ):
        resolve(cfg)


# A chunk split, whose windows are held out, not documents.


def test_a_chunk_split_loses_no_document(own_text):
    """Every token of every document is in one split, but for less than a window."""
    rng = np.random.default_rng(0)
    texts = [story(rng) for _ in range(60)]
    changes = {"data.windows": "stream", "data.split": "chunk"}
    data = dataset.load(own_text("\n\n".join(texts), changes))
    num_tokens = sum(map(len, data.tokenizer.encode(texts)))
    assert num_tokens - 128 < data.train.size + data.valid.size <= num_tokens
    single = dataset.load(own_text(" ".join(texts), changes))
    assert single.train.size + single.valid.size > num_tokens - 128 - 60


# Runs that say what they are.


def test_a_directory_without_a_checkpoint_is_taken_over(cache_dir, tmp_path, capsys):
    """A first call whose settings could not work claims nothing; nor does one that was
    killed before its first checkpoint."""
    from tiny_configs import FAMILIES

    cfg, path = toy(cache_dir), tmp_path / "run"
    bad = replace(cfg, optimizer=replace(cfg.optimizer, warmup_steps=100))
    with pytest.raises(ValueError, match="warmup_steps=100"):
        run.train(FAMILIES["ar"], bad, path)
    assert not (path / "run.json").exists()
    other = replace(cfg, seed=5)
    run.create(path, "ar", other, dataset.load(other))
    assert not run.train(FAMILIES["ar"], cfg, path, should_stop=lambda: True)
    assert "holds no checkpoint, so it is taken over" in capsys.readouterr().err
    assert run.open_run(path, "ar").cfg == cfg
    with pytest.raises(ValueError, match="was trained with seed=0, not 5"):
        run.train(FAMILIES["ar"], other, path)


def test_text_that_changed_after_training_is_refused(own_text, tmp_path):
    """A finished run does not report on text that nobody trained on."""
    rng = np.random.default_rng(0)
    cfg = own_text("\n\n".join(story(rng) for _ in range(40)))
    assert compare(cfg, tmp_path / "run") is not None
    path = Path(*cfg.data.train_files)
    path.write_text(path.read_text() + "\n\nA new story.")
    plan._resolved.clear()  # as another process would
    for again in (cfg, resolve(cfg)):
        with pytest.raises(ValueError, match="was trained on other text than corpus"):
            compare(again, tmp_path / "run")


@pytest.mark.parametrize(
    "field, value",
    [("seed", -1), ("seed", 2**32), ("seed", 10**20), ("data.seed", 2**32)],
)
def test_seeds_that_jax_cannot_tell_apart_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{value} must lie between 0 and"):
        sweep.replace_fields(Config(), {field: value})
    assert sweep.replace_fields(Config(), {field: 2**32 - 1})


@pytest.mark.parametrize(
    "field, value",
    [
        ("optimizer.b1", 1.5),
        ("optimizer.b1", -0.1),
        ("optimizer.b2", 1.0),
        ("optimizer.final_share", 1.5),
        ("train.num_steps", 3_000_000_000),
        ("sample.num_samples", 2**31),
    ],
)
def test_settings_out_of_their_range_are_named(field, value):
    with pytest.raises(ValueError, match=field.rpartition(".")[2]):
        sweep.replace_fields(Config(), {field: value})
    assert dataclasses.is_dataclass(SampleConfig(num_samples=1))  # no comparison
