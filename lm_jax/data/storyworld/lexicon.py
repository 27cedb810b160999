"""The lexicons of Storyworld: its characters, places and things.

A lexicon is a tuple of entries, the most frequent first. An entry is one choice and
contains all its forms, so that agreement (a name with its pronouns, an adjective with
its article) is copying alone. The first form, `name`, is the plain one; a capitalised
form, `Name`, begins a sentence. A form has the same number of words in all entries of a
lexicon.
"""

Entry = dict[str, str]
Lexicon = tuple[Entry, ...]

PRONOUNS = {
    "girl": {"he": "she", "him": "her", "his": "her"},
    "boy": {"he": "he", "him": "him", "his": "his"},
}


def _children(girls: str, boys: str) -> Lexicon:
    """Entries of girls and boys in turn, each with pronouns and an introduction."""
    return tuple(
        {"name": name, "who": f"{kind} named {name}", **PRONOUNS[kind]}
        for pair in zip(girls.split(), boys.split(), strict=True)
        for kind, name in zip(PRONOUNS, pair, strict=True)
    )


def _words(words: str) -> Lexicon:
    return tuple({"name": word} for word in words.split())


def _phrases(form: str, phrases: str) -> Lexicon:
    """Entries of phrases: the form `form` is a phrase, `name` its last word."""
    return tuple(
        {"name": phrase.split()[-1], form: phrase} for phrase in phrases.split(", ")
    )


def _with_capitals(lexicon: Lexicon) -> Lexicon:
    return tuple(
        {**entry, **{f.capitalize(): t[0].upper() + t[1:] for f, t in entry.items()}}
        for entry in lexicon
    )


_LEXICONS: dict[str, Lexicon] = {
    "hero": _children(
        "Lily Mia Sara Anna",
        "Tom Ben Max Tim",
    ),
    "friend": _children("Sue Kate Molly", "Joe Luke Adam"),
    "child": _words("boy girl"),
    "grown_up": _words("mom dad grandma grandpa aunt uncle"),
    "place": _words("park garden river forest beach farm"),
    "toy": _phrases(
        "a",
        "a doll, a boat, a car, a robot, a drum, an airplane",
    ),
    "colour": _phrases(
        "a", "a red, a blue, a green, a yellow, a pink, an orange, a white"
    ),
    "animal": _words("rabbit kitten duck puppy mouse fox"),
    "size": _phrases("a", "a little, a small, a tiny, a shy, a gray, an old"),
    "food": _phrases(
        "some", "some bread, an apple, some cheese, a carrot, some corn, a pear"
    ),
}

LEXICONS = {name: _with_capitals(lexicon) for name, lexicon in _LEXICONS.items()}
