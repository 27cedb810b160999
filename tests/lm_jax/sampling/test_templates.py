"""Text in and text out: templates mean what they say, and no sample is lost."""

import numpy as np
import pytest

from lm_jax.data.tokenizers.sentencepiece import train_tokenizer
from lm_jax.sampling.samples_file import Sample, read_samples, to_json
from lm_jax.sampling.templates import escaped, infill_template, prompt_template
from lm_jax.types import EOS, MASK

STORY = "Tom had a big red ball. He lost it in the park. Mia found it. The end."
SAMPLES = [
    Sample(
        text='"Hi!"\nsaid\u2028Zoë \\ 🙂\r\n',
        tokens=[5, 9, 4, 65_535],
        seed=7,
        sampler={"family": "mdlm", "sampler": "ancestral", "top_p": 0.9, "row": 3},
        finished=True,
    ),
    Sample(text="", tokens=[4], seed=0, sampler={}, finished=False),
]


@pytest.fixture(scope="module")
def tokenizer():
    stories = [STORY, "Mia had a big dog. She lost it. Tom found it in the park."]
    return train_tokenizer(stories * 20, 310)


def ids(tokenizer, text):
    return tokenizer.encode([text])[0].tolist()


def test_a_prompt_stands_before_free_tokens(tokenizer):
    """Every row begins as the tokenised text begins, and MASK is the rest."""
    for prompt in ("Tom had a big", "Tom had a big "):  # the space belongs to a word
        template = prompt_template(tokenizer, prompt, (3, 20))
        given = ids(tokenizer, STORY)[: len(ids(tokenizer, "Tom had a big"))]
        np.testing.assert_array_equal(
            template, [given + [MASK] * (20 - len(given))] * 3
        )
    assert np.all(prompt_template(tokenizer, "", (2, 5)) == MASK)


def test_a_gap_behind_a_backslash_is_text(tokenizer):
    """The only way to give a number in brackets; `escaped` writes any text so."""
    template = infill_template(tokenizer, r"Tom \[12] [3].", (1, 48))[0]
    story = template[: np.argmax(template == EOS)]
    assert np.count_nonzero(story == MASK) == 3
    assert tokenizer.decode(story[story != MASK]) == "Tom [12]."
    for text in ("[1]", r"\[1] [x] [", "no gap", r"a \\[2] b"):
        template = infill_template(tokenizer, f"{escaped(text)}[2]", (1, 64))[0]
        tokens = template[: np.argmax(template == MASK)]
        assert tokenizer.decode(tokens) == text


def test_a_prompt_that_is_no_text_is_refused(tokenizer):
    """A byte that the command line could not decode."""
    for template in (prompt_template, infill_template):
        with pytest.raises(ValueError, match="is not UTF-8 at character 3: correct it"):
            template(tokenizer, "caf\udce9 [2]", (1, 48))


def test_a_prompt_leaves_room(tokenizer):
    """A prompt as long as the window is refused; one token fewer is not."""
    num_tokens = len(ids(tokenizer, STORY))
    prompt_template(tokenizer, STORY, (1, num_tokens + 1))
    for length in (num_tokens, 3):
        with pytest.raises(ValueError, match=f"{num_tokens} tokens.*window {length}:"):
            prompt_template(tokenizer, STORY, (1, length))


@pytest.mark.parametrize(
    "gaps",
    [[" big red ball"], [" big", " in the park"], ["Tom had", " The end."], [STORY]],
)
def test_a_filled_gap_is_the_tokenised_story(tokenizer, gaps):
    """Filled with the tokens that were cut out, the template is the story's own tokens.

    So the fixed pieces are tokenised as in running text, and a gap takes the space
    before it. EOS follows, then MASK.
    """
    pattern, missing = STORY, []
    for gap in gaps:
        tokens = ids(tokenizer, gap)
        space = " " if gap.startswith(" ") else ""
        pattern = pattern.replace(gap, f"{space}[{len(tokens)}]", 1)
        missing += tokens
    (row,) = infill_template(tokenizer, pattern, (1, 60))
    story = ids(tokenizer, STORY)
    assert np.all(row[len(story) + 1 :] == MASK)
    free = np.flatnonzero(row[: len(story)] == MASK)
    row[free] = missing
    np.testing.assert_array_equal(row[: len(story) + 1], [*story, EOS])
    assert tokenizer.first_document(row) == (STORY, True)


def test_a_bracket_without_a_number_is_text(tokenizer):
    """Only digits make a gap; two gaps in a row are one."""
    text = "[x] Tom [] [-1] [MASK] [1.5]"
    (row,) = infill_template(tokenizer, text + " [2][3]", (1, 60))
    given = ids(tokenizer, text)
    np.testing.assert_array_equal(row[: len(given) + 6], [*given, *[MASK] * 5, EOS])


def test_an_infill_without_sense_is_refused(tokenizer):
    """No gap, an empty gap, no room: each error names its numbers and the way out."""
    with pytest.raises(ValueError, match=r"'Tom \[x\].' has no gap: write \[8\]"):
        infill_template(tokenizer, "Tom [x].", (1, 20))
    with pytest.raises(ValueError, match=r"gap of no tokens: \[1\]"):
        infill_template(tokenizer, "Tom [3] had [0].", (1, 20))
    for pattern, num_tokens in (("[20]", 21), ("[10][9999999999]", 10**10 + 10)):
        with pytest.raises(ValueError, match=f"takes {num_tokens} .*window has 20:"):
            infill_template(tokenizer, pattern, (1, 20))
    infill_template(tokenizer, "[19]", (1, 20))


def test_a_story_ends_at_its_first_eos(tokenizer):
    """What stands behind EOS is another story; without EOS the story is unfinished."""
    story, other = ids(tokenizer, STORY), ids(tokenizer, "Mia had")
    tokens = np.array([*story, EOS, *other, EOS])
    assert tokenizer.first_document(tokens) == (STORY, True)
    assert tokenizer.first_document(tokens[: len(story)]) == (STORY, False)
    assert tokenizer.first_document(np.array([EOS, *other])) == ("", True)


def test_samples_survive_their_file(tmp_path):
    """read(write(samples)) = samples, whatever characters the text has."""
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(to_json(s) + "\n" for s in SAMPLES), encoding="utf-8")
    assert read_samples(path) == SAMPLES
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("line", ['{"text": "cut', '{"text": "a"}', "[1, 2]"])
def test_a_damaged_line_is_named(tmp_path, line):
    """The error says which line of which file, and what to do."""
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(to_json(s) + "\n" for s in SAMPLES), encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8") + line, encoding="utf-8")
    with pytest.raises(ValueError, match="line 3 of .*samples.jsonl.*sample again"):
        read_samples(path)
