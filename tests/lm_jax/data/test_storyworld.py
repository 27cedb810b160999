"""Storyworld states exact numbers about itself, and other code here checks each."""

import itertools
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from lm_jax.data import storyworld
from lm_jax.data.storyworld import grammar
from lm_jax.data.storyworld.grammar import (
    END,
    Choice,
    Copy,
    Node,
    Sequence,
    Text,
    entropy,
    generate,
    log_prob,
    prefix_log_prob,
)
from lm_jax.data.storyworld.lexicon import LEXICONS, Entry
from lm_jax.data.storyworld.plots import PLOTS

STORIES = generate(seed=0, num_stories=1000)
HEROES = {entry["name"]: entry for entry in LEXICONS["hero"]}
ALPHABET = string.ascii_letters + ' ,.!?"'


def hero(text: str) -> dict[str, str]:
    return HEROES[re.findall(r"named (\w+)", text)[0]]


def sentences(text: str) -> list[str]:
    return re.findall(r"[^.!?]+[.!?]", text)


def nodes(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Choice):
        for option in node.options:
            yield from nodes(option)
    if isinstance(node, Sequence):
        for part in node.parts:
            yield from nodes(part)


def derivations(
    node: Node, fits: Callable[[str], bool], written: str, bound: dict[str, Entry]
) -> Iterator[tuple[str, dict[str, Entry], float]]:
    """All that may be written so far, then by `node`, and fits: text, bound, P."""
    if isinstance(node, Choice):
        for p, option in zip(node.probs, node.options, strict=True):
            for text, then, q in derivations(option, fits, written, bound):
                yield text, then, p * q
    elif isinstance(node, Sequence):
        ways = [(written, bound, 1.0)]
        for part in node.parts:
            ways = [
                (text, then, p * q)
                for so_far, now, p in ways
                for text, then, q in derivations(part, fits, so_far, now)
            ]
        yield from ways
    elif isinstance(node, Copy):
        text = written + bound[node.lexicon][node.form]
        yield from [(text, bound, 1.0)] if fits(text) else []
    elif isinstance(node, Text):
        text = written + node.text
        yield from [(text, bound | node.binds, 1.0)] if fits(text) else []


def test_every_story_has_one_derivation_and_its_probability():
    """P(text) sums over derivations, of which there is exactly one."""
    for text in STORIES[:300]:
        whole = text + END
        ways = list(derivations(grammar._story(), whole.startswith, "", {}))
        assert [text for text, _, _ in ways] == [whole]
        assert log_prob(text) == pytest.approx(math.log(ways[0][2]), rel=1e-12)


def test_log_prob_is_that_of_the_derivation_that_wrote_the_story():
    for i, text in enumerate(STORIES):
        again, log_p = grammar._sample(0, i)
        assert again == text
        assert log_prob(text) == pytest.approx(log_p, rel=1e-12)


def test_mean_surprise_is_the_entropy():
    """H = E[-log P], within four standard errors."""
    nats = [-log_prob(text) for text in generate(seed=1, num_stories=4000)]
    assert abs(np.mean(nats) - entropy()) < 4 * np.std(nats) / math.sqrt(len(nats))


def test_next_characters_share_the_mass_of_a_prefix():
    """P(prefix) = sum_c P(prefix + c) + P(story = prefix), at any cut of a story."""
    rng = np.random.default_rng(0)
    for text in STORIES[:12]:
        for cut in (0, *rng.integers(1, len(text), 6), len(text)):
            prefix = text[:cut]
            mass = math.fsum(math.exp(prefix_log_prob(prefix + c)) for c in ALPHABET)
            mass += math.exp(log_prob(prefix))
            assert mass == pytest.approx(math.exp(prefix_log_prob(prefix)), rel=1e-9)


def test_a_longer_prefix_is_no_likelier():
    assert prefix_log_prob("") == 0.0
    for text in STORIES[:10]:
        log_p = [prefix_log_prob(text[:cut]) for cut in range(len(text) + 1)]
        assert all(b <= a + 1e-9 for a, b in itertools.pairwise(log_p))
        assert log_p[-1] == pytest.approx(log_prob(text), rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", " ", "Once", "Once upon a time, there was a dragon.", END, "\n" * 99]
)
def test_what_is_no_story_has_no_probability(text):
    assert log_prob(text) == -math.inf


def test_a_story_that_disagrees_with_itself_has_no_probability():
    """Another name, pronoun, place or thing; a word too few, or too many."""
    rng = np.random.default_rng(0)
    for text in STORIES[:200]:
        name = hero(text)["name"]
        girl = hero(text)["he"] == "she"
        other = next(n for n in HEROES if n != name and n not in text)
        head, last = text[: -len(sentences(text)[-1])], sentences(text)[-1]
        assert name in last
        words = text.split(" ")
        cut = rng.integers(1, len(text))
        k = rng.integers(len(words))
        altered = [
            head + last.replace(name, other),
            text[:cut],
            text + " ",
            " " + text,
            text + END,
            text + text,
            f"{text} The end.",
            " ".join(words[:k] + words[k + 1 :]),
            " ".join(words[: k + 1] + words[k:]),
            text.lower(),
        ]
        swaps = {"She": "He", "Her": "His"} if girl else {"He": "She", "His": "Her"}
        for old, new in swaps.items():
            first = re.search(rf"\b{old}\b", text)
            if first:
                altered.append(text[: first.start()] + new + text[first.end() :])
        for lexicon in ("place", "toy", "animal", "colour", "friend"):
            for entry in LEXICONS[lexicon]:
                spots = list(re.finditer(rf"\b{entry['name']}\b", text))
                if len(spots) > 1 and lexicon != "friend":
                    new = next(
                        e["name"] for e in LEXICONS[lexicon] if e["name"] not in text
                    )
                    altered.append(
                        text[: spots[-1].start()] + new + text[spots[-1].end() :]
                    )
        for wrong in altered:
            assert log_prob(wrong) == -math.inf, wrong


def test_a_story_keeps_its_hero_its_helper_its_place_and_its_thing():
    """One name, from the first sentence to the last, five times or more; one place."""
    helpers = [
        e["name"] for kind in ("friend", "grown_up", "animal") for e in LEXICONS[kind]
    ]
    for text in STORIES:
        names = [word for word in re.findall(r"\w+", text) if word in HEROES]
        assert len(set(names)) == 1 and len(names) >= 5
        assert names[0] in sentences(text)[0] and names[0] in sentences(text)[-1]
        assert " friend " in text or any(re.search(rf"\b{h}\b", text) for h in helpers)
        story = text.split(", " + names[0], 1)[-1]
        places = Counter(
            entry["name"]
            for entry in LEXICONS["place"]
            for _ in re.finditer(rf"\bthe {entry['name']}\b", story)
        )
        assert len(places) == 1 and max(places.values()) >= 2


def test_openings_have_their_stated_probabilities():
    """P(story begins so) is stated, sums to one, is skewed, and shows in samples."""
    stated = storyworld.openings()
    assert sum(stated.values()) == pytest.approx(1.0)
    assert len(stated) >= 8 and max(stated.values()) > 3 / len(stated)
    stories = generate(seed=2, num_stories=4000)
    for words, prob in stated.items():
        assert prefix_log_prob(words) == pytest.approx(math.log(prob))
        share = np.mean([text.startswith(words) for text in stories])
        assert abs(share - prob) < 4 * math.sqrt(prob * (1 - prob) / len(stories))


def test_every_plot_is_told():
    """Twelve plots or more, with equal probabilities."""
    assert len(PLOTS) >= 12
    story = grammar._story()
    assert isinstance(story, grammar.Sequence)
    plots = story.parts[2]
    assert isinstance(plots, grammar.Choice)
    assert plots.probs == (1 / len(PLOTS),) * len(PLOTS)


def test_numbers_about_the_language_are_exact():
    """Length, size and vocabulary, against the samples that they bound."""
    least, mean, most = storyworld.num_words()
    lengths = [len(text.split()) for text in STORIES]
    assert 40 <= least <= min(lengths) and max(lengths) <= most <= 150
    error = np.std(lengths) / math.sqrt(len(lengths))
    assert abs(np.mean(lengths) - mean) < 4 * error
    words = {word.lower() for text in STORIES for word in re.findall(r"\w+", text)}
    assert words <= storyworld.vocabulary()
    assert len(storyworld.vocabulary()) >= 400
    assert storyworld.num_distinct_stories() >= 10**9


def test_a_grammar_small_enough_to_list_has_the_numbers_of_its_list(monkeypatch):
    """Probability, entropy, size, lengths and words, by enumeration."""
    template = (
        "[A|The] [cat|dog|fat cow] [saw <colour.a> hat. The {colour} hat fell|slept]."
    )
    node = grammar._parse(template)
    monkeypatch.setattr(grammar, "_story", lambda: Sequence((node, Text(END))))
    ways = list(derivations(node, lambda text: True, "", {}))
    texts = {text: prob for text, _, prob in ways}
    assert len(texts) == len(ways)
    probs = np.array(list(texts.values()))
    lengths = np.array([len(text.split()) for text in texts])
    assert probs.sum() == pytest.approx(1.0)
    assert storyworld.num_distinct_stories() == len(texts)
    assert entropy() == pytest.approx(-probs @ np.log(probs), rel=1e-12)
    least, mean, most = storyworld.num_words()
    assert (least, most) == (lengths.min(), lengths.max())
    assert mean == pytest.approx(probs @ lengths, rel=1e-12)
    words = {word for text in texts for word in re.findall(r"\w+", text.lower())}
    assert storyworld.vocabulary() == words
    for text, prob in texts.items():
        assert log_prob(text) == pytest.approx(math.log(prob), rel=1e-12)
        prefix = text[: len(text) // 2]
        mass = math.fsum(p for t, p in texts.items() if t.startswith(prefix))
        assert prefix_log_prob(prefix) == pytest.approx(math.log(mass), rel=1e-12)


def test_forms_have_one_width_and_distinct_entries():
    """num_words counts the words of a form once for a whole lexicon."""
    for lexicon in LEXICONS.values():
        for form in lexicon[0]:
            assert len({len(entry[form].split()) for entry in lexicon}) == 1
        assert len({entry["name"] for entry in lexicon}) == len(lexicon)


@pytest.mark.parametrize(
    "template",
    [
        "[a red|a red car] x",
        "[a|a] b",
        "[a|] b",
        "<toy> and [{toy}|doll]",
        "[<hero>|Tom]",
    ],
)
def test_a_choice_that_could_read_alike_is_refused(template):
    with pytest.raises(ValueError, match="alike"):
        grammar._parse(template)


def test_a_letter_that_touches_a_bracket_is_refused():
    with pytest.raises(ValueError, match="touches"):
        grammar._parse("walk[ed|s] home")


def test_a_story_is_a_function_of_its_seed_and_its_index():
    assert generate(0, 5) == STORIES[:5]
    assert generate(1, 5) != STORIES[:5]
    assert len(set(STORIES)) == len(STORIES)
    with pytest.raises(ValueError, match="seed=-1"):
        generate(-1, 1)


def test_stories_are_plain_ascii_with_single_spaces():
    for text in STORIES:
        assert text.isascii() and text.isprintable()
        assert text == " ".join(text.split())
