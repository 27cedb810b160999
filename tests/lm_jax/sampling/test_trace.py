"""Playbacks: a trace as text, and the order of writing in numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from lm_jax.data.tokenizers.sentencepiece import train_tokenizer
from lm_jax.sampling.generate import make_samples
from lm_jax.sampling.order import order
from lm_jax.sampling.samples_file import Sample
from lm_jax.sampling.trace import END, events, playback
from lm_jax.types import EOS, MASK, SampleOutput

TEXTS = ["Tom had a big red ball.", "Once Mia had a dog. She lost it."] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 290)


def sample(tokenizer, tokens, steps, given=()) -> Sample:
    """Written at these steps, as the samplers' own traces say it."""
    tokens, steps = np.array(tokens), np.array(steps)
    steps = np.where(np.isin(np.arange(len(steps)), given), -1, steps)
    start = np.where(steps < 0, tokens, MASK)
    history = np.stack(
        [np.where(steps <= step, tokens, MASK) for step in range(steps.max() + 1)]
    )
    ends = np.flatnonzero(tokens == EOS)
    return Sample(
        text=tokenizer.decode(tokens[: ends[0]] if ends.size else tokens),
        tokens=tokens.tolist(),
        seed=0,
        sampler={},
        finished=bool(ends.size),
        nfe=len(np.unique(steps[steps >= 0])),
        unmask_step=steps.tolist(),
        trace=events(start, history),
    )


def after(found) -> list[str | int]:
    """The pieces that stand there in the end."""
    pieces = list(found["given"])
    for _, position, piece in found["events"]:
        pieces[position] = piece
    assert None not in pieces
    return pieces


@pytest.mark.parametrize(
    "text", ["Tom had a dog.", " Zoë → 日本 🎈\n\n<b>&", "\ufffd x"]
)
def test_surfaces_joined_are_the_text(tokenizer, text):
    """Whatever is spelt in bytes, and with special ids between."""
    (ids,) = tokenizer.encode([text])
    pieces = tokenizer.pieces([*ids, EOS, *ids])
    assert len(pieces) == 2 * len(ids) + 1
    assert "".join(pieces) == tokenizer.decode([*ids, *ids]) == text + text
    assert pieces[len(ids)] == ""


@pytest.mark.parametrize("seed", range(3))
def test_a_playback_ends_with_the_text(tokenizer, seed):
    """In any order of writing, the pieces up to the end are the sample's text."""
    (ids,) = tokenizer.encode(["Mia had a “red” \x03 dog."])
    tokens = [*ids, EOS, *ids[:4]]
    steps = np.random.default_rng(seed).permutation(len(tokens))
    found = playback(tokenizer, sample(tokenizer, tokens, steps, given=[1, 2]))
    pieces = after(found)
    shown = "".join(map(str, pieces[: pieces.index(END)]))
    assert shown == found["text"] == "Mia had a “red” \x03 dog."
    assert len(pieces) == len(tokens)
    assert [i for i, piece in enumerate(found["given"]) if piece is not None] == [1, 2]
    assert len(found["events"]) == len(tokens) - 2
    assert [step for step, *_ in found["events"]] == sorted(np.delete(steps, [1, 2]))


def test_what_lies_behind_the_end_of_a_text_is_left_out(tokenizer):
    """A row that has ended is EOS to its end; one EOS is enough to see it."""
    (ids,) = tokenizer.encode(["Tom had a dog."])
    tokens = [*ids, EOS, EOS, EOS]
    found = playback(tokenizer, sample(tokenizer, tokens, np.arange(len(tokens))))
    assert after(found)[-1] == END and len(found["given"]) == len(ids) + 1


def test_masked_again_is_no_piece_and_what_was_there_is_told(tokenizer):
    """[step, position, piece]: the old piece, None, the new one."""
    (old, new) = (tokenizer.encode([word])[0][-1] for word in ("a", "b"))
    history = np.array([[old, EOS], [MASK, EOS], [new, EOS]])
    trace = events(np.array([MASK, EOS]), history)
    written = sample(tokenizer, [new, EOS], [2, 0], given=[1])
    written = Sample(**{**vars(written), "trace": trace})
    found = playback(tokenizer, written)
    assert found["events"] == [[0, 0, "a"], [1, 0, None], [2, 0, "b"]]
    assert found["given"] == [None, END]


def test_a_trace_begins_with_the_given_tokens_of_its_own_row(tokenizer):
    """Two rows, each with another token given: the other one is an event."""
    template = np.array([[9, MASK], [MASK, 11]])
    tokens, steps = jnp.array([[9, 10], [10, 11]]), jnp.array([[-1, 0], [0, -1]])
    output = SampleOutput(tokens, steps, jnp.int32(1), jnp.ones(2, int), tokens[None])
    found = make_samples(tokenizer, output, template, 0, 0, {})
    assert [row.trace for row in found] == [[[0, 1, 10]], [[0, 0, 10]]]
    assert [row.unmask_step for row in found] == steps.tolist()


def test_a_sample_without_a_trace_is_refused(tokenizer):
    written = sample(tokenizer, [9, EOS], [0, 1])
    with pytest.raises(ValueError, match="--trace"):
        playback(tokenizer, Sample(**{**vars(written), "trace": None}))


def test_order_of_left_to_right_and_of_its_reverse(tokenizer):
    """tau is 1 and -1; every left neighbour was there before, or none."""
    tokens = [*tokenizer.encode(["Tom had a dog."])[0], EOS]
    forward = np.arange(len(tokens))
    for steps, tau, share in ((forward, 1.0, 1.0), (forward[::-1], -1.0, 0.0)):
        found = order([sample(tokenizer, tokens, steps)] * 3)
        assert {name: row.value for name, row in found.items()} == {
            "kendall_tau": tau,
            "left_neighbour_share": share,
            "tokens_per_call": 1.0,
        }
    pairs = order([sample(tokenizer, tokens, forward // 2)] * 3)
    assert pairs["tokens_per_call"].value == pytest.approx(
        len(tokens) / np.ceil(len(tokens) / 2)
    )
    share = np.mean(np.diff(forward // 2) > 0)
    assert pairs["left_neighbour_share"].value == pytest.approx(share)


def test_order_counts_the_story_and_not_what_fills_its_window(tokenizer):
    """The EOS behind a text that has ended come at one step, and say nothing."""
    tokens = [*tokenizer.encode(["Tom had a dog."])[0], EOS]
    steps = [*range(len(tokens)), *[len(tokens) - 1] * 5]
    found = order([sample(tokenizer, [*tokens, *[EOS] * 5], steps)] * 2)
    assert found["kendall_tau"].value == found["tokens_per_call"].value == 1.0


def test_order_of_untraced_samples_is_unknown(tokenizer):
    written = sample(tokenizer, [9, EOS], [0, 1])
    assert order([Sample(**{**vars(written), "unmask_step": None})]) == {}
