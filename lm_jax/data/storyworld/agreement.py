"""Where a text leaves the language of Storyworld: which word fails to agree.

The loosened grammar lets every re-mention be any entry of its lexicon: "Tom" may later
be "Ben", his pronouns may be hers. A text of the loosened language is in the language
itself if and only if no re-mention disagrees, so the derivation with the fewest
disagreements says what is wrong with it.
"""

from collections import Counter
from functools import cache
from heapq import heappop, heappush
from itertools import count
from typing import Any

from lm_jax.data.storyworld.grammar import END, Choice, Copy, Sequence, Text, grammar
from lm_jax.data.storyworld.lexicon import LEXICONS, Entry

PRONOUN, UNFINISHED, OTHER = "pronoun", "unfinished", "other"
KINDS = (*LEXICONS, PRONOUN, UNFINISHED, OTHER)
_PRONOUN_FORMS = {"he", "him", "his"}


def agreement_errors(text: str) -> Counter[str]:
    """How many re-mentions disagree, by kind; empty for a story of the language.

    The kind is the lexicon (hero, friend, place, toy, colour, ...), or "pronoun". A
    text that ends too soon also has one "unfinished"; a text that is not even a
    beginning in the loosened language has one "other" and nothing else, as nobody can
    say what it meant.
    """
    if END in text:
        return Counter({OTHER: 1})
    found = _fewest_errors(text + END)
    if found is None:
        found = _fewest_errors(text)
        if found is None:
            return Counter({OTHER: 1})
        found = (*found, UNFINISHED)
    return Counter(found)


def _fewest_errors(text: str) -> tuple[str, ...] | None:
    """The errors of the best derivation that begins with the text.

    Best first: the derivation with the fewest errors so far goes on, so the first to
    cover the text has the fewest of all.
    """
    order = count()  # breaks ties, deepest first
    heap: list[tuple[int, int, int, Any, dict[str, Entry], tuple[str, ...]]]
    heap = [(0, 0, next(order), (grammar(), None), {}, ())]
    while heap:
        _, behind, _, todo, bound, errors = heappop(heap)
        position = -behind
        if position == len(text):
            return errors
        if not todo:
            continue
        node, rest = todo
        if isinstance(node, Choice):
            branches = [
                (position, (option, rest), bound, errors) for option in node.options
            ]
        elif isinstance(node, Sequence):
            for part in reversed(node.parts):
                rest = (part, rest)
            branches = [(position, rest, bound, errors)]
        elif isinstance(node, Text):
            bound = {**bound, **node.binds} if node.binds else bound
            branches = _written(text, position, node.text, rest, bound, errors)
        else:
            assert isinstance(node, Copy)
            branches = []
            right = bound[node.lexicon][node.form]
            for piece in _forms(node.lexicon, node.form):
                wrong = () if piece == right else (_kind(node),)
                branches += _written(text, position, piece, rest, bound, errors + wrong)
        for position, todo, bound, errors in branches:
            entry = (len(errors), -position, next(order), todo, bound, errors)
            heappush(heap, entry)
    return None


def _written(
    text: str,
    position: int,
    piece: str,
    todo: Any,
    bound: dict[str, Entry],
    errors: tuple[str, ...],
) -> list[tuple[int, Any, dict[str, Entry], tuple[str, ...]]]:
    """The state behind the piece, if that is what the text has here."""
    if text.startswith(piece, position):
        return [(position + len(piece), todo, bound, errors)]
    if piece.startswith(text[position:]):
        return [(len(text), todo, bound, errors)]
    return []


@cache
def _forms(lexicon: str, form: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry[form] for entry in LEXICONS[lexicon]))


def _kind(node: Copy) -> str:
    return PRONOUN if node.form.lower() in _PRONOUN_FORMS else node.lexicon
