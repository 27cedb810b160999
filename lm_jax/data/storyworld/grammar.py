"""Storyworld: a stochastic grammar of short stories with exact probabilities.

No text has two derivations. Hence the probability of a text, the entropy of the
language, and the share of a model's samples that belong to it are exact: they need no
judge and no bound. Logarithms are natural.
"""

import math
import re
from bisect import bisect
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, combinations
from typing import Any

import numpy as np

from lm_jax import progress
from lm_jax.data.storyworld.lexicon import LEXICONS, Entry
from lm_jax.data.storyworld.plots import OPENINGS, PHRASES, PLOTS

END = "\0"  # ends every story, so that a whole story is the prefix that ends with it


def generate(seed: int, num_stories: int) -> list[str]:
    """Independent stories; story i is a function of (seed, i) alone."""
    for name, value in (("seed", seed), ("num_stories", num_stories)):
        if value < 0:
            raise ValueError(f"{name}={value} is negative: give 0 or more")
    numbers = progress.over(range(num_stories), "storyworld", "stories")
    return [_sample(seed, i)[0] for i in numbers]


def log_prob(text: str) -> float:
    """log P(story = text); -inf outside the language."""
    return -math.inf if END in text else _log_mass(text + END)


def prefix_log_prob(text: str) -> float:
    """log P(story begins with text), summed over all continuations."""
    return -math.inf if END in text else _log_mass(text)


def entropy() -> float:
    """E[-log P(story)], by the chain rule over choices: one text, one derivation."""

    def choose(probs: tuple[float, ...], nats: list[float]) -> float:
        return sum(p * (n - math.log(p)) for p, n in zip(probs, nats, strict=True))

    return _fold(_story(), lambda texts: 0.0, choose, sum)


def num_distinct_stories() -> int:
    """The number of stories in the language."""
    return _fold(_story(), lambda texts: 1, lambda probs, sizes: sum(sizes), math.prod)


def num_words() -> tuple[int, float, int]:
    """Words per story: the minimum, the mean and the maximum."""

    def count(texts: list[str]) -> int:
        return len(_words(texts[0]))  # a form has the same number in every entry

    def mean(probs: tuple[float, ...], counts: list) -> float:
        return sum(p * n for p, n in zip(probs, counts, strict=True))

    return (
        _fold(_story(), count, lambda probs, counts: min(counts), sum),
        _fold(_story(), count, mean, sum),
        _fold(_story(), count, lambda probs, counts: max(counts), sum),
    )


def vocabulary() -> set[str]:
    """Every word that a story can contain, in lower case."""

    def words(texts: list[str]) -> set[str]:
        return {word.lower() for text in texts for word in _words(text)}

    def union(sets: list[set[str]]) -> set[str]:
        return set().union(*sets)

    return _fold(_story(), words, lambda probs, sets: union(sets), union)


def openings() -> dict[str, float]:
    """The probability of each opening, the first words of a story."""
    return {words: prob for prob, words, _ in OPENINGS}


# The grammar: a tree with four kinds of nodes.


class Node:
    """A node of the grammar: a distribution over pieces of a story."""


@dataclass(frozen=True, eq=False)
class Text(Node):
    """A literal text, which may bind entries: {lexicon: entry}."""

    text: str
    binds: dict[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Copy(Node):
    """A form of the entry that the story has bound for a lexicon."""

    lexicon: str
    form: str


@dataclass(frozen=True, eq=False)
class Choice(Node):
    """One of several options; by default the k-th has weight 1 / (k + 1)."""

    options: tuple[Node, ...]
    probs: tuple[float, ...] = ()

    def __post_init__(self):
        if not self.probs:
            weights = [1 / (k + 1) for k in range(1, len(self.options) + 1)]
            probs = tuple(weight / sum(weights) for weight in weights)
            object.__setattr__(self, "probs", probs)
        _check_distinct(self.options)


@dataclass(frozen=True, eq=False)
class Sequence(Node):
    """All parts, in order."""

    parts: tuple[Node, ...]


def grammar() -> Node:
    """The root of the tree."""
    return _story()


@cache
def _story() -> Node:
    beginnings = [_parse(f"{words} {rest}") for _, words, rest in OPENINGS]
    plots = [_parse(plot) for plot in PLOTS.values()]
    return Sequence(
        (
            Choice(tuple(beginnings), tuple(prob for prob, _, _ in OPENINGS)),
            Text(" "),
            Choice(tuple(plots), (1 / len(plots),) * len(plots)),
            Text(END),
        )
    )


def _sample(seed: int, i: int) -> tuple[str, float]:
    """Story i and its log-probability, summed along its derivation."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i,)))
    pieces, log_p, bound, todo = [], 0.0, {}, [_story()]
    while todo:
        node = todo.pop()
        if isinstance(node, Choice):
            k = bisect(list(accumulate(node.probs[:-1])), rng.random())
            log_p += math.log(node.probs[k])
            todo.append(node.options[k])
        elif isinstance(node, Sequence):
            todo.extend(reversed(node.parts))
        elif isinstance(node, Text):
            pieces.append(node.text)
            bound |= node.binds
        elif isinstance(node, Copy):
            pieces.append(bound[node.lexicon][node.form])
    return "".join(pieces).removesuffix(END), log_p


def _log_mass(text: str) -> float:
    """log P(story + END begins with text).

    A hypothesis is a partial derivation: its probability, its position in the text, the
    nodes still to expand, and the bound entries. One that covers the text counts with
    its whole probability, as its continuations sum to one.
    """
    mass = 0.0
    hypotheses: list[tuple[float, int, Any, dict[str, Entry]]]
    hypotheses = [(1.0, 0, (_story(), None), {})]
    while hypotheses:
        prob, position, todo, bound = hypotheses.pop()
        while todo and position < len(text):
            node, todo = todo
            if isinstance(node, Choice):
                for p, option in zip(node.probs, node.options, strict=True):
                    hypotheses.append((prob * p, position, (option, todo), bound))
                break
            if isinstance(node, Sequence):
                for part in reversed(node.parts):
                    todo = (part, todo)
                continue
            if isinstance(node, Text):
                piece = node.text
                bound = {**bound, **node.binds} if node.binds else bound
            else:
                assert isinstance(node, Copy)
                piece = bound[node.lexicon][node.form]
            if text.startswith(piece, position):
                position += len(piece)
            elif piece.startswith(text[position:]):
                position = len(text)
            else:
                break
        else:
            mass += prob if position == len(text) else 0.0
    return math.log(mass) if mass else -math.inf


def _fold(node: Node, leaf: Callable, choose: Callable, join: Callable) -> Any:
    """Folds a tree by leaf(texts of a leaf), choose(probs, values) and join(values)."""
    if isinstance(node, Choice):
        values = [_fold(option, leaf, choose, join) for option in node.options]
        return choose(node.probs, values)
    if isinstance(node, Sequence):
        return join([_fold(part, leaf, choose, join) for part in node.parts])
    if isinstance(node, Copy):
        return leaf([entry[node.form] for entry in LEXICONS[node.lexicon]])
    assert isinstance(node, Text)
    return leaf([node.text])


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


# The template language of plots.py.


def _parse(template: str) -> Node:
    while "$" in template:
        template = re.sub(r"\$(\w+)", lambda match: PHRASES[match[1]], template)
    template = re.sub(r"(?<=[\[|]) | (?=[|\]])", "", " ".join(template.split()))
    if re.search(r"\w[\[<{]|[\]>}]\w", template):
        raise ValueError(f"a letter touches a bracket in {template!r}: add a space")
    return _sequence(deque(re.split(r"([\[\]|]|<[^>]*>|{[^}]*})", template)))


def _sequence(tokens: deque[str]) -> Sequence:
    """Parses up to the end of this option, whose closing token it does not consume."""
    parts = []
    while tokens and tokens[0] not in ("|", "]"):
        token = tokens.popleft()
        lexicon, _, form = token.strip("<{}>").partition(".")
        if token == "[":
            options = [_sequence(tokens)]
            while tokens.popleft() == "|":
                options.append(_sequence(tokens))
            parts.append(Choice(tuple(options)))
        elif token.startswith("<"):
            entries = LEXICONS[lexicon]
            texts = [Text(entry[form or "name"], {lexicon: entry}) for entry in entries]
            parts.append(Choice(tuple(texts)))
        elif token.startswith("{"):
            parts.append(Copy(lexicon, form or "name"))
        elif token:
            parts.append(Text(token))
    return Sequence(tuple(parts))


# Unique derivations: at a choice, no option can be a prefix of another.

Symbol = str | tuple[str, str, int]  # a word or a mark; or (lexicon, form, which word)


def _check_distinct(options: tuple[Node, ...]) -> None:
    """Compares prefixes of growing length of every two options."""
    for first, second in combinations(options, 2):
        length, alike = 0, {0}
        while alike:
            length += 1
            if min(alike) < length - 1:
                raise ValueError(
                    f"{first} and {second} can read alike, so a text would have two "
                    "derivations: let the options differ before either ends"
                )
            alike = {
                min(len(x), len(y))
                for x in _prefixes(first, length)
                for y in _prefixes(second, length)
                if all(map(_can_agree, x, y))
            }


@cache
def _prefixes(node: Node, length: int) -> set[tuple[Symbol, ...]]:
    """The first symbols, at most `length`, of every text of a node."""
    if length == 0:
        return {()}
    if isinstance(node, Choice):
        return set().union(*(_prefixes(option, length) for option in node.options))
    if isinstance(node, Sequence):
        heads: set[tuple[Symbol, ...]] = {()}
        for part in node.parts:
            heads = {
                head + tail
                for head in heads
                for tail in _prefixes(part, length - len(head))
            }
        return heads
    if isinstance(node, Copy):
        num_words = len(_words(LEXICONS[node.lexicon][0][node.form]))
        symbols = [(node.lexicon, node.form, i) for i in range(num_words)]
        return {tuple(symbols[:length])}
    if isinstance(node, Text):
        return {tuple(re.findall(r"\w+|[^\w\s]", node.text)[:length])}
    raise TypeError(f"{node} is no node of a grammar")


@cache
def _can_agree(a: Symbol, b: Symbol) -> bool:
    """Whether two symbols can be the same word; a lexicon has one entry per story."""
    if isinstance(a, tuple) and isinstance(b, tuple) and a[0] == b[0]:
        return any(x == y for x, y in zip(_readings(a), _readings(b), strict=True))
    return not set(_readings(a)).isdisjoint(_readings(b))


@cache
def _readings(symbol: Symbol) -> list[str]:
    if isinstance(symbol, str):
        return [symbol]
    lexicon, form, i = symbol
    return [_words(entry[form])[i] for entry in LEXICONS[lexicon]]
