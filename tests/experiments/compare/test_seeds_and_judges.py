"""Seeds, frontiers and judges of a comparison, at toy size."""

import dataclasses
import json
from collections import Counter
from copy import deepcopy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.compare import diversity, frontier, held_out, judge, seeds
from experiments.families import FAMILIES
from lm_jax import run
from lm_jax.config import Config, EvaluateConfig, FrontierConfig, SampleConfig
from lm_jax.data import storyworld
from lm_jax.sampling.samples_file import read_samples
from lm_jax.types import EOS, PAD

JUDGED = ("judge_bits_per_byte", "judge_perplexity", "judge_token_entropy")


def replace(cfg, section, **values):
    part = dataclasses.replace(getattr(cfg, section), **values)
    return dataclasses.replace(cfg, **{section: part})


def test_seeds_have_directories_of_their_own(tmp_path):
    """The first lies where a single one would, so that more can be asked for later."""
    one = seeds.runs(Config(seed=4), tmp_path)
    three = seeds.runs(Config(seed=4, num_seeds=3), tmp_path)
    assert one == three[:1] == [(Config(seed=4), tmp_path)]
    assert [path.name for _, path in three[1:]] == ["seed_5", "seed_6"]
    assert [cfg.seed for cfg, _ in three] == [4, 5, 6]
    with pytest.raises(ValueError, match="num_seeds=0"):
        Config(num_seeds=0)


def result(seed, ar, mdlm):
    """Results with one speed and one metric."""
    families = {
        name: {
            "curve": [
                {"step": step, "nats_per_token": nats}
                for step, nats in ((0, 9.0), (50, 2.0), (100, 2.0 + value))
            ],
            "training": {"tokens_per_second": value},
            "likelihood": {"nats_per_token": value, "bits_per_byte": value},
            "variety": {"distinct_4": {"value": value, "low": 0.0, "high": 1.0}},
        }
        for name, value in (("ar", ar), ("mdlm", mdlm))
    }
    return {"seed": seed, "families": families}


def test_summary_over_seeds_by_hand():
    """1, 2, 3 against 2, 3, 4: seeds differ and the difference, in pairs, does not."""
    found = seeds.summary([result(i, i + 1.0, i + 2.0) for i in range(3)])
    assert found["seeds"] == [0, 1, 2]
    row = found["families"]["ar"]["variety.distinct_4"]
    assert row["values"] == [1.0, 2.0, 3.0]
    ends = 2.0 + np.array([-1.0, 1.0]) * 4.302653 / np.sqrt(3)
    np.testing.assert_allclose([row["low"], row["high"]], ends, rtol=1e-6)
    gap = found["differences"]["mdlm"]["training.tokens_per_second"]
    np.testing.assert_allclose(list(gap.values()), 1.0)
    assert found["families"]["ar"]["convergence.best_step_share"]["value"] == 0.5


def test_frontier_varies_one_setting_at_a_time():
    """Each point differs from the base in one field, and AR has no steps to vary."""
    cfg = Config(
        sample=SampleConfig(temperature=0.7),
        frontier=FrontierConfig(
            num_samples=8,
            temperatures=(0.7, 1.0),
            top_ps=(0.9,),
            num_steps=(4,),
            samplers=("low_temperature", "margin"),
        ),
    )
    ar, mdlm = FAMILIES.values()
    found = frontier.settings(cfg, mdlm)
    varied = [
        "base",
        "temperature=1",
        "top_p=0.9",
        "num_steps=4",
        "sampler=low_temperature",
    ]
    assert list(found) == [*varied, "sampler=margin"]
    assert found["base"] == SampleConfig(temperature=0.7, num_samples=8)
    assert found["num_steps=4"] == SampleConfig(
        temperature=0.7, num_samples=8, num_steps=4
    )
    assert list(frontier.settings(cfg, ar)) == [*varied[:3], "sampler=low_temperature"]
    with pytest.raises(ValueError, match="frontier.temperatures='hot' is no list"):
        Config.from_dict({"frontier": {"temperatures": "hot"}})
    with pytest.raises(ValueError, match="num_samples=1"):
        FrontierConfig(num_samples=1)


def test_halves_share_no_story():
    """A story goes where its text says, wherever and however often it stands."""
    stories = storyworld.generate(0, 200)
    one, other = judge.halves(stories + stories[::-1])
    assert not set(one) & set(other)
    assert set(one) | set(other) == set(stories)
    assert 60 < len(set(one)) < 140


def test_a_judge_that_knows_the_training_text_is_refused(tmp_path):
    """The error says how many stories are common, and what to pass."""
    path = tmp_path / "judge.txt"
    path.write_text("one story\n<|endoftext|>\nanother story\n<|endoftext|>\n")
    cfg = replace(Config(), "data", corpus="text", train_files=("x.txt",))
    cfg = replace(cfg, "evaluate", judge_steps=5, judge_files=(str(path),))
    with pytest.raises(ValueError, match="1 documents of judge_files"):
        judge.judge_config(cfg, tmp_path, ["one  story"])
    found = judge.judge_config(cfg, tmp_path, ["a third"])
    assert (found.train.num_steps, found.data.corpus) == (5, "text")
    with pytest.raises(ValueError, match="--halve"):
        judge.judge_config(
            replace(cfg, "evaluate", judge_files=()), tmp_path, ["a third"]
        )


def test_an_outside_judge_scores_every_source(finished, tmp_path):
    """AR of another run: perplexity by hand, and a row of held-out text."""
    workdir, cfg, results = finished
    cfg, results = (
        replace(cfg, "evaluate", judge=str(workdir / "ar")),
        deepcopy(results),
    )
    samples = {
        name: read_samples(workdir / name / "comparison" / "samples.jsonl")
        for name in results["families"]
    }
    reference = held_out.load(cfg, workdir)
    judge.add_judgement(cfg, tmp_path, reference, results, samples)
    assert results["judge"]["run"] == str(workdir / "ar")
    model = run.load(workdir / "ar")
    drawn = [(s.text, s.finished) for s in samples["mdlm"]]
    human = [*zip(reference.human[:6], reference.is_finished[:6], strict=True)]
    for part, rows in (
        (results["families"]["mdlm"], drawn),
        (results["human"], human),
    ):
        found = {name: part["fluency"][name]["value"] for name in JUDGED}
        nats, num_tokens, entropies = 0.0, 0, []
        for text, is_finished in rows:
            (tokens,) = model.run.tokenizer.encode([text])
            row = np.append(tokens, EOS) if is_finished else tokens
            row = jnp.asarray(row[: model.run.cfg.model.length], jnp.int32)
            log_p, _ = model.lm.log_likelihood(
                model.params, row[None], jax.random.key(0), 2
            )
            nats, num_tokens = nats - float(log_p[0]), num_tokens + len(row)
            share = np.array(list(Counter(row.tolist()).values())) / len(row)
            entropies.append(-np.sum(share * np.log(share)))
        assert found["judge_perplexity"] == pytest.approx(
            np.exp(nats / num_tokens), rel=1e-3
        )
        assert found["judge_token_entropy"] == pytest.approx(np.mean(entropies))
    with pytest.raises(ValueError, match="is a run of mdlm, whose likelihood is a bou"):
        judge.outside(str(workdir / "mdlm"))


def test_command_prints_every_heading(tmp_path):
    """Samples beside a reference, with training text and the grammar."""
    path = tmp_path / "samples.jsonl"
    stories = storyworld.generate(1, 12)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in stories))
    human = tmp_path / "valid.txt"
    human.write_text("<|endoftext|>\n".join(storyworld.generate(2, 12)))
    report = diversity.run(
        str(path),
        str(human),
        str(human),
        with_grammar=True,
        score=lambda samples, reference: 0.5,
    )
    for name in (
        "Variety, at equal words",
        "smoothed_self_bleu",
        "Openings of 5 words",
        "jensen_shannon_floor",
        "longest_copied_run",
        "source_nats_per_story",
        "MAUVE against the reference: 0.5000",
    ):
        assert name in report
    with pytest.raises(ValueError, match="--reference"):
        diversity.run(str(path), "", "", score=lambda samples, reference: 0.5)


def test_mauve_without_its_package_says_how_to_get_it(tmp_path, monkeypatch):
    """One sentence: what is missing, and the way out."""
    from lm_jax.evaluation import mauve_score

    def fail(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(mauve_score.importlib, "import_module", fail)
    with pytest.raises(ValueError, match=r"pip install -e '.\[mauve\]'"):
        mauve_score.mauve(["a"], ["b"])
    with pytest.raises(ValueError, match="0 documents"):
        mauve_score.mauve([], ["b"])


def test_a_sample_is_scored_up_to_the_end_of_its_first_story():
    """Its EOS counts; what the window goes on with does not."""
    tokens = [7, 8, EOS, 9, EOS]
    assert run._first_document(tokens).tolist() == [7, 8, EOS, PAD, PAD]
    assert run._first_document([7, 8]).tolist() == [7, 8]
    assert run._first_document([EOS, EOS]).tolist() == [EOS, PAD]


def test_details_can_be_turned_off():
    """Zero leaves a part out; a negative number is refused by name."""
    assert EvaluateConfig(detail_windows=0)
    with pytest.raises(ValueError, match="detail_windows=-1"):
        EvaluateConfig(detail_windows=-1)
