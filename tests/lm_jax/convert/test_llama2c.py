"""llama2.c's files against a NumPy pass of them, and stories260K, real weights."""

import dataclasses
import json

import jax.numpy as jnp
import llama2c
import numpy as np
import pytest
from hard_texts import HARD_TEXTS, TEXTS
from scipy import stats

from lm_jax import run
from lm_jax.convert import import_run
from lm_jax.evaluation.likelihood import window_nats
from lm_jax.files import sha256
from lm_jax.keys import Stream, stream
from lm_jax.model.architectures import make_backbone
from lm_jax.types import BOS, EOS, PAD

GOLDEN = """\
Once upon a time, there was a little girl named Lily. She loved to play outside in \
the park. One day, she saw a big, red ball. She wanted to play with it, but it was too \
high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to \
do. She said, "I want to play with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know \
what to do."
Lily didn't want to help her mom, so she"""
NUM_SCORED, NATS = 150, 70.4737  # of the golden text, by a float64 pass of the file


def our_logits(model, ids):
    """Logits of our backbone after BOS and these ids of ours."""
    backbone = make_backbone(model.run.cfg.model, causal=True)
    inputs = jnp.asarray([[BOS, *ids]])
    return np.asarray(backbone.logits(model.params["backbone"], inputs))[0]


def golden_ids(stories_dir):
    return llama2c.encode((stories_dir / "tokenizer.bin").read_bytes(), GOLDEN)


# stories260K.


def test_greedy_text_is_the_published_one(stories):
    """Character for character, by the cached sampler of the library."""
    cfg = dataclasses.replace(
        stories.run.cfg.sample, temperature=0.0, num_samples=1, length=200
    )
    samples, _ = run.sample(stories, cfg)
    assert samples[0].text == GOLDEN


def test_golden_text_costs_what_the_file_says(stories, stories_dir):
    """150 tokens: 70.4737 nats by the float64 pass of the file, and here."""
    theirs = golden_ids(stories_dir)[:NUM_SCORED]
    sizes, weights = llama2c.read((stories_dir / "checkpoint_v1.bin").read_bytes())
    log_p = llama2c.log_softmax(llama2c.logits(sizes, weights, [1, *theirs[:-1]]))
    np.testing.assert_allclose(-log_p[range(NUM_SCORED), theirs].sum(), NATS, atol=1e-4)
    window = np.full((1, stories.run.cfg.model.length), PAD, np.uint16)
    window[0, :NUM_SCORED] = llama2c.our_ids(theirs)
    nats, errors = window_nats(
        stories.lm,
        stories.params,
        window,
        key=stream(0, Stream.SCORING),
        num_draws=2,
        batch_size=1,
    )
    np.testing.assert_allclose(nats[0], NATS, atol=1e-3)
    assert errors[0] == 0


def test_first_two_tokens_have_the_probabilities_of_the_file(stories, stories_dir):
    """Chi-squared of the cached sampler at temperature 1 against float64 softmax."""
    sizes, weights = llama2c.read((stories_dir / "checkpoint_v1.bin").read_bytes())
    n, v = 4096, stories.run.cfg.model.vocab_size
    p = np.zeros((v, v))
    ours = llama2c.our_ids(range(sizes.vocab))
    first = np.exp(llama2c.log_softmax(llama2c.logits(sizes, weights, [1])[0]))
    for token in np.flatnonzero(first > 1e-7).tolist():
        if ours[token] == EOS:  # the rest of the window is EOS
            p[EOS, EOS] = first[token]
            continue
        second = llama2c.logits(sizes, weights, [1, token])[1]
        p[ours[token], ours] = first[token] * np.exp(llama2c.log_softmax(second))
    cfg = dataclasses.replace(
        stories.run.cfg.sample, num_samples=n, batch_size=1024, length=2
    )
    samples, _ = run.sample(stories, cfg, seed=3)
    counts = np.zeros((v, v))
    np.add.at(counts, tuple(np.array([sample.tokens for sample in samples]).T), 1)
    is_common = n * p >= 5
    observed = [*counts[is_common], counts[~is_common].sum()]
    expected = [*(n * p[is_common]), n - n * p[is_common].sum()]
    assert is_common.sum() > 8
    assert stats.chisquare(observed, expected, sum_check=False).pvalue > 1e-3


def test_tokenizer_is_that_of_run_c(stories, stories_dir, tinystories_dir):
    """TinyStories and hard texts have the ids of its greedy merges, and come back."""
    data = (stories_dir / "tokenizer.bin").read_bytes()
    text = (tinystories_dir / "official_valid_500.txt").read_text("utf-8")
    texts = [story.strip() for story in text.split("<|endoftext|>")[:40]]
    texts += [*TEXTS, *HARD_TEXTS]
    encoded = stories.run.tokenizer.encode(texts)
    for text, ids in zip(texts, encoded, strict=True):
        assert stories.run.tokenizer.decode(ids) == text
        pieces = stories.run.tokenizer.pieces(ids)
        assert "".join(pieces) == text and len(pieces) == len(ids)
        assert not ids.size or ids.min() > EOS
        if "\u2581" not in text:  # sentencepiece's sign of a space
            assert ids.tolist() == llama2c.our_ids(llama2c.encode(data, text)).tolist()


def test_bytes_are_those_of_the_text(stories, tinystories_dir):
    """A document has one byte more than its text: that of the space before it, in
    place of the one that EOS has elsewhere."""
    text = (tinystories_dir / "official_valid_500.txt").read_text("utf-8")
    texts = [story.strip() for story in text.split("<|endoftext|>")[:40]]
    sizes = stories.run.tokenizer.num_bytes
    for text, ids in zip(texts, stories.run.tokenizer.encode(texts), strict=True):
        assert sizes[[*ids, EOS]].sum() == len(text.encode()) + 1


def test_held_out_stories_cost_about_the_published_loss(
    stories, tinystories_dir, tmp_path
):
    """1.2968 nats per token on the publisher's own split and packing."""
    text = (tinystories_dir / "official_valid_500.txt").read_text("utf-8")
    few = tmp_path / "few.txt"
    few.write_text("<|endoftext|>".join(text.split("<|endoftext|>")[:25]), "utf-8")
    cfg = dataclasses.replace(stories.run.cfg.evaluate, detail_windows=0)
    scores = run.evaluate(stories, cfg, text_file=str(few))
    assert not scores["is_bound"] and scores["num_windows"] > 20
    np.testing.assert_allclose(scores["nats_per_token"], 1.2968, atol=0.12)


def test_the_run_says_where_it_comes_from(stories, stories_dir):
    """Format, files and their digests, covered by the digest of run.json."""
    source = json.loads((stories.run.path / "run.json").read_text())["source"]
    assert source["format"] == "llama2c"
    names = ("checkpoint_v1.bin", "tokenizer.bin")
    paths = [stories_dir / name for name in names]
    assert source["files"] == {str(path): sha256(path) for path in paths}
    model = stories.run.cfg.model
    assert (model.norm_epsilon, model.rope_base, model.tied_head) == (1e-5, 1e4, False)
    with pytest.raises(ValueError, match=r"no held-out windows.*--text_file"):
        run.evaluate(stories)


# Made-up files.


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_every_layout_has_the_logits_of_the_file(made_up, tmp_path, legacy, tied):
    """Grouped heads, tied or not, with and without a magic number."""
    sizes, _, folder = made_up
    weights = llama2c.random_weights(sizes, tied)
    checkpoint = tmp_path / "model.bin"
    checkpoint.write_bytes(llama2c.to_bytes(sizes, weights, legacy))
    tokenizer = [folder / "tokenizer.bin"]
    import_run("llama2c", checkpoint, tmp_path / "run", tokenizer=tokenizer)
    model = run.load(tmp_path / "run")
    ids = np.random.default_rng(1).integers(3, sizes.vocab, 20)
    theirs = llama2c.logits(sizes, weights, [1, *ids])
    ours = our_logits(model, llama2c.our_ids(ids))
    found = ours[:, llama2c.our_ids(range(sizes.vocab))]
    np.testing.assert_allclose(found, theirs, atol=2e-5)
    assert model.step == 0 and model.run.cfg.model.length == sizes.seq


def test_windows_can_be_shorter_and_text_held_out(made_up, tmp_path):
    """--length and --text_file: held-out windows as every run has them."""
    _, _, folder = made_up
    (tmp_path / "text.txt").write_text("Once on the day.<|endoftext|>The day.")
    opened = import_run(
        "llama2c",
        folder / "model.bin",
        tmp_path / "run",
        text_file=str(tmp_path / "text.txt"),
        length=16,
    )
    assert opened.cfg.model.length == 16 and opened.valid.shape[1] == 16
    documents = [x for row in opened.valid for x in opened.tokenizer.documents(row)]
    assert "".join(documents) == "Once on the day.The day."
    with pytest.raises(ValueError, match=r"--length=99 must lie between 2 and 32"):
        import_run("llama2c", folder / "model.bin", tmp_path / "other", length=99)
    with pytest.raises(ValueError, match=r"is not empty: name another --workdir"):
        import_run("llama2c", folder / "model.bin", tmp_path / "run")
