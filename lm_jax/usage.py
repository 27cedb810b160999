"""What programs print about themselves: the text of --help, and errors as sentences."""

import inspect
import os
import re
import shlex
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

WIDTH = 88
MAX_LENGTH = 800  # of an error that nobody wrote for a terminal, as XLA's may be
# Errors that the program's input can cause, so that their own words are enough.
BAD_INPUT = (ValueError, FloatingPointError, OSError)
HELP = ("h", "?", "help", "helpshort", "helpfull")


class Flag(NamedTuple):
    """A flag, as --help lists it.

    Attributes:
      name: without its dashes; "[no]trace" for a switch.
      meaning: one sentence or more.
      default: default value; "" is not printed.
    """

    name: str
    meaning: str
    default: str = ""


def asks_for_help(argv: Iterable[str]) -> bool:
    """Whether one of the words is -h, --help or another name of it."""
    words = [word for word in argv if word.startswith("-")]
    return any(word.lstrip("-") in HELP for word in words)


def describe(
    about: str, flags: Iterable[Flag], config: Mapping[str, Any] | None, source: str
) -> str:
    """The text of --help.

    Args:
      about: docstring of the program.
      flags: all its flags, in the order in which they are printed.
      config: values of the fields of --config; None where there is no such flag.
      source: the file that these values are from.
    """
    lines = [inspect.cleandoc(about), "", "Flags:"]
    for name, meaning, default in flags:
        text = f"--{name}: {' '.join(meaning.split())}"
        if default:
            text += f" Default: {default}."
        lines += textwrap.wrap(
            text, WIDTH, initial_indent="  ", subsequent_indent=" " * 6
        )
    if config is not None:
        lines += ["", f"Fields of --config, with the values of {source}:"]
        lines += [f"  --config.{name}={value}" for name, value in fields(config)]
    return "\n".join(lines)


def fields(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """The name and the value of each field, as a shell reads them.

    >>> list(fields({"seed": 0, "data": {"windows": "document", "valid_files": ""}}))
    [('seed', '0'), ('data.windows', 'document'), ('data.valid_files', '')]
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", shlex.quote(str(value)) if value != "" else ""


def meanings(section: type) -> dict[str, str]:
    """The meaning of each field of a class, from "Attributes:" in its docstring.

    An entry "t_on, t_off: text" is about both.
    """
    block = re.search(
        r"^Attributes:\n((?:  .*\n?|\n)*)", inspect.getdoc(section) or "", re.MULTILINE
    )
    entries = re.findall(
        r"^  (\w+(?:, \w+)*):\s(.*(?:\n    .*)*)", block[1] if block else "", re.M
    )
    return {
        name: " ".join(text.split())
        for names, text in entries
        for name in names.split(", ")
    }


def explain(error: Exception) -> tuple[str, int]:
    """What a program prints about the error that ends it, and its exit status.

    The status is 2 for bad input, where the error says what to do, and 1 for an error
    that nobody foresaw.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        # Of a failed renaming, the second name is the one that the user knows.
        name = error.filename if error.filename2 is None else error.filename2
        where = os.fsdecode(name) if isinstance(name, str | bytes) else "a file"
        text = (
            f"cannot read or write {where} ({error.strerror}): remove the cause, and "
            "run the same command again"
        )
    is_foreseen = isinstance(error, BAD_INPUT) and not isinstance(error, UnicodeError)
    if text and is_foreseen:
        return text, 2
    text = ": ".join(filter(None, [type(error).__name__, text.rstrip(".")]))
    text = textwrap.shorten(text, MAX_LENGTH, placeholder=" ...")
    return f"{text}; --traceback shows where", 1
