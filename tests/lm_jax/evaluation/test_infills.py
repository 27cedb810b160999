"""The likelihood of fills: a probability over gaps, and its rank of choices."""

import json

import numpy as np
import pytest
from programs import Programs
from tiny_configs import FAMILIES

from lm_jax import run
from lm_jax.config import SampleConfig
from lm_jax.evaluation import infills
from lm_jax.types import EOS, MASK

GAPS = [
    infills.Gap("Once upon a time,", "was happy.", ("Tom", "a red ball", "the")),
    infills.Gap("", "The end.", ("Sara had a dog.", "Sara had a dog. dog dog")),
]


def test_a_gap_is_tokenized_in_three_parts(finished):
    """Given text on both sides, MASK in the gap, EOS after the text, MASK behind it."""
    tokenizer = run.load(finished[0] / "ar", FAMILIES["ar"]).run.tokenizer
    rows = infills.encode(tokenizer, GAPS, 40)
    assert rows.x.shape == rows.template.shape == (5, 40)
    for row, template, count in zip(*rows, strict=True):
        is_gap = (template == MASK) & (row != MASK)
        assert is_gap.sum() == count and row[row != MASK][-1] == EOS
        np.testing.assert_array_equal(template[~is_gap], row[~is_gap])
    assert tokenizer.decode(rows.x[1][rows.template[1] == MASK][:3]).strip()
    with pytest.raises(ValueError, match="there are no gaps"):
        infills.encode(tokenizer, [], 40)
    with pytest.raises(ValueError, match="line 1: the fill 'a red ball' has"):
        infills.encode(tokenizer, GAPS, int((rows.x[1] != MASK).sum()) - 1)


@pytest.mark.parametrize("name, kind", [("spread", "exact"), ("ancestral", "bound")])
def test_all_fills_of_one_token_add_up_to_one(finished, name, kind):
    """For a sampler without chance in a gap of one token, exact or not."""
    workdir, cfg, _ = finished
    model = run.load(workdir / "mdlm", FAMILIES["mdlm"])
    length = cfg.model.length
    ids = np.arange(EOS + 1, cfg.model.vocab_size)
    x = np.full((len(ids), length), MASK, np.int32)
    x[:, :5] = [7, 8, MASK, 9, EOS]
    template = x.copy()
    x[:, 2] = ids
    rows = infills.Rows(x, template, np.ones(len(ids), int))
    found, nats = infills.score(
        model.family,
        model.lm,
        model.params,
        rows,
        model.family.resolve(SampleConfig(sampler=name, num_steps=1)),
        cfg.evaluate,
        run.stream(0, run.Stream.SAMPLER_LIKELIHOOD),
    )
    assert found == kind and abs(np.exp(-nats).sum() - 1.0) < 1e-4


def test_a_model_that_cannot_look_ahead_scores_the_joint(finished):
    """AR: the nats of the whole text, from its beginning to its EOS."""
    workdir, cfg, _ = finished
    model = run.load(workdir / "ar", FAMILIES["ar"])
    found = run.score_infills(model, GAPS)
    assert [line["kind"] for line in found] == ["joint", "joint"]
    assert [len(line["fills"]) for line in found] == [3, 2]
    rows = infills.encode(model.run.tokenizer, GAPS, cfg.model.length)
    for row, fill in zip(rows.x, sum((f["fills"] for f in found), []), strict=True):
        text = row[row != MASK]
        whole = np.zeros((1, cfg.model.length), np.uint16)
        whole[0, : len(text)] = text
        nats, _ = infills.window_nats(
            model.lm,
            model.params,
            whole,
            key=run.stream(0, run.Stream.SCORING),
            num_draws=2,
            batch_size=1,
        )
        assert fill["nats"] == pytest.approx(nats[0], rel=1e-5)


def test_choices_are_ranked_by_all_nats_or_per_token():
    rows = infills.Rows(np.zeros((5, 1)), np.zeros((5, 1)), np.array([1, 3, 1, 4, 9]))
    nats = np.array([3.0, 4.0, 5.0, 8.0, 9.0])
    found = infills.summary(GAPS, rows, "exact", nats)
    assert [(line["best"], line["best_per_token"]) for line in found] == [
        (0, 1),
        (0, 1),
    ]
    never = infills.summary(GAPS, rows, "exact", np.full(5, np.inf))
    assert never[0]["best"] is None and never[0]["fills"][0]["nats"] is None
    assert found[0]["fills"][1] == {"text": "a red ball", "nats": 4.0, "num_tokens": 3}


def test_a_file_of_gaps_is_scored_in_order(finished, tmp_path):
    """One line out for each line in; a bad one is named by its number."""
    workdir, file, out = finished[0], tmp_path / "gaps.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps(gap._asdict()) + "\n" for gap in GAPS))
    with Programs() as programs:
        flags = (f"--workdir={workdir / 'mdlm'}", f"--infill_scores={file}")
        done = programs("mdlm_jax.evaluate", *flags, "--sampler=eb", f"--out={out}")
        assert (done.status, done.err) == (0, "")
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        model = run.load(workdir / "mdlm", FAMILIES["mdlm"])
        assert lines == run.score_infills(model, GAPS, None, SampleConfig(sampler="eb"))
        done = programs("mdlm_jax.evaluate", *flags, "--sampler=remdm_cap")
        assert done.status == 2 and "--sampler='remdm_cap' masks" in done.sentence
        again = programs("mdlm_jax.evaluate", *flags, "--sampler=eb", f"--out={out}")
        assert again.status == 0  # its own lines may be replaced, and no other file
        written = file.read_text()
        done = programs("mdlm_jax.evaluate", *flags, f"--out={file}")
        expected = (
            f"{file} holds something else than scores of gaps: name another --out"
        )
        assert (done.status, done.sentence) == (2, expected)
        assert file.read_text() == written
        done = programs("mdlm_jax.evaluate", *flags, "--stride=4")
        assert done.status == 2 and done.sentence.endswith("leave out --stride")
        file.write_text(file.read_text() + '{"fills": []}\n')
        done = programs("mdlm_jax.evaluate", *flags)
        expected = f'line 3 of {file}: it has no list of texts "fills"'
        assert (done.status, done.sentence) == (2, expected)
