"""Agreement errors of a text: re-mentions that differ from the Storyworld grammar.

The relaxed grammar lets every re-mention be any entry of its lexicon: "Tom" may later
be "Ben", and his pronouns may be hers. A text of the relaxed language is in the
language itself if and only if no re-mention disagrees, so the errors of a text are the
disagreements of the derivation that has the fewest.
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
    """The number of disagreeing re-mentions by kind; empty for a story of the language.

    The kind is the lexicon (hero, friend, place, toy, colour, ...), or "pronoun". A
    text that ends too soon also has one "unfinished"; a text that is not even a prefix
    in the relaxed language has one "other" and nothing else, as it has no derivation.
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
    """The errors of the derivation with the fewest that begins with the text; or None.

    Best-first search: it always extends the derivation with the fewest errors so far,
    so the first one that covers the text has the fewest of all.
    """
    order = count()  # breaks ties, deepest first
    heap: list[tuple[int, int, int, Any, dict[str, Entry], tuple[str, ...]]]
    heap = [(0, 0, next(order), (grammar(), None), {}, ())]
    while heap:
        _, negative_position, _, todo, bound, errors = heappop(heap)
        position = -negative_position
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
            branches = _match(text, position, node.text, rest, bound, errors)
        else:
            assert isinstance(node, Copy)
            branches = []
            right = bound[node.lexicon][node.form]
            for piece in _forms(node.lexicon, node.form):
                wrong = () if piece == right else (_kind(node),)
                branches += _match(text, position, piece, rest, bound, errors + wrong)
        for position, todo, bound, errors in branches:
            entry = (len(errors), -position, next(order), todo, bound, errors)
            heappush(heap, entry)
    return None


def _match(
    text: str,
    position: int,
    piece: str,
    todo: Any,
    bound: dict[str, Entry],
    errors: tuple[str, ...],
) -> list[tuple[int, Any, dict[str, Entry], tuple[str, ...]]]:
    """[the state after the piece] if the text has it at this position, else []."""
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
