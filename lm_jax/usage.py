"""The text of --help, and errors as sentences."""

import inspect
import os
import re
import shlex
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

WIDTH = 88
MAX_LENGTH = 800  # characters of an unexpected error; those of XLA can be very long
# Errors that bad input causes: their message is printed without their type.
BAD_INPUT = (ValueError, FloatingPointError, OSError)
HELP = ("h", "?", "help", "helpshort", "helpfull")


class Flag(NamedTuple):
    """An entry of --help.

    Attributes:
      name: name without dashes; "[no]trace" for a boolean flag.
      meaning: description, one sentence or more.
      default: default value; "" is not printed.
    """

    name: str
    meaning: str
    default: str = ""


def asks_for_help(argv: Iterable[str]) -> bool:
    """Whether the arguments contain -h, --help or a synonym."""
    words = [word for word in argv if word.startswith("-")]
    return any(word.lstrip("-") in HELP for word in words)


def describe(
    about: str, flags: Iterable[Flag], config: Mapping[str, Any] | None, source: str
) -> str:
    """The text of --help.

    Args:
      about: docstring of the program.
      flags: its flags, in the order in which they are printed.
      config: values of the fields of --config; None if the program has no --config.
      source: file that these values come from.
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
    """(name, value) of each field of nested dictionaries, quoted for a shell.

    >>> list(fields({"seed": 0, "data": {"windows": "document", "valid_files": ""}}))
    [('seed', '0'), ('data.windows', 'document'), ('data.valid_files', '')]
    """
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from fields(value, f"{prefix}{name}.")
        else:
            if isinstance(value, list | tuple):
                value = ",".join(map(str, value))
            yield f"{prefix}{name}", shlex.quote(str(value)) if value != "" else ""


def meanings(section: type) -> dict[str, str]:
    """Description of each field of a class, from "Attributes:" in its docstring.

    An entry "t_on, t_off: text" describes both fields.
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
    """Message and exit status for an error that ends a program.

    The status is 2 for bad input, where the message says what to do, and 1 for an
    unexpected error.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        # After a failed rename, the user knows only the second name.
        name = error.filename if error.filename2 is None else error.filename2
        where = os.fsdecode(name) if isinstance(name, str | bytes) else "a file"
        text = (
            f"cannot read or write {where} ({error.strerror}): remove the cause, and "
            "run the same command again"
        )
    is_bad_input = isinstance(error, BAD_INPUT) and not isinstance(error, UnicodeError)
    if text and is_bad_input:
        return text, 2
    text = ": ".join(filter(None, [type(error).__name__, text.rstrip(".")]))
    text = textwrap.shorten(text, MAX_LENGTH, placeholder=" ...")
    return f"{text}; --traceback shows where", 1
