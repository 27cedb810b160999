"""Command line of all programs: flags, --help, and errors as one sentence.

A main defines its flags with absl and calls `run`. Importing this file defines none.
"""

import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from lm_jax import distributed, files, signals, usage
from lm_jax.config import Config, require
from lm_jax.validation import split_list

# Messages of absl about a value of the wrong type, and what is printed instead.
RULES = {
    "invalid literal for int": "is no integer: write digits, as in 8",
    "could not convert string to float": "is no number: write digits, as in 0.5",
    "Non-boolean argument": "is neither true nor false: write one of them",
}


def run(
    main: Callable[..., None],
    *,
    required: Mapping[str, str] | None = None,
    positional: str = "",
    may_be_one_of_many: bool = False,
) -> None:
    """Parses flags and calls main; an error becomes one sentence and an exit status.

    Args:
      main: program; its argument is the positional argument, if there is one.
      required: required flags, each with the placeholder of its value in messages:
        {"workdir": "DIR"}.
      positional: placeholder of the one positional argument; "" is none.
      may_be_one_of_many: whether several processes may run the program together.
    """
    flags.DEFINE_bool("traceback", False, "Show where in the code an error was raised.")
    if may_be_one_of_many:
        flags.DEFINE_bool("distributed", False, "Ask the cluster for other processes.")
        flags.DEFINE_string("coordinator", "", "host:port of process 0; default: none.")
        flags.DEFINE_integer("num_processes", 1, "Number of processes.")
        flags.DEFINE_integer("process_id", 0, "Number of this process, from 0.")
    required = required or {}

    def parse(argv: list[str]) -> list[str]:
        if usage.asks_for_help(argv[1:]):
            _end(_help(required), 0)
        try:
            _, *rest = flags.FLAGS([_readable(word) for word in argv])
            for name, value in required.items():
                require(_is_given(name), f"--{name} is missing: pass --{name}={value}")
            _require_positional(rest, positional)
        except Exception as error:
            _end(bad_flag(error, required), 2)
        return rest

    def guarded(rest: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # orbax logs every save
        # asyncio would add a traceback to the sentence about a failed save.
        getLogger("asyncio").setLevel("CRITICAL")
        signals.leave_on_signal()
        try:
            if may_be_one_of_many:
                _join_processes()
            main(*rest)
            sys.stdout.flush()
        except Exception as error:
            if flags.FLAGS.traceback:
                raise
            is_bad_input = isinstance(error, usage.BAD_INPUT)
            text, status = (
                not is_bad_input and _missing_device() or usage.explain(error)
            )
            _end(_with_flags(text), status)

    app.run(guarded, flags_parser=parse)


def define_config(default: Path | None = None) -> None:
    """Defines --config=FILE and --config.field=value."""
    # A default file is loaded and overridden here, which --help must not depend on.
    is_help = usage.asks_for_help(sys.argv[1:])
    try:
        if not is_help:
            _check_config(sys.argv)
        config_flags.DEFINE_config_file(
            "config",
            None if default is None else str(default),
            "Python file with get_config(); FILE.py:WORD calls get_config(WORD).",
            sys_argv=sys.argv[:1] if is_help else list(map(_readable, sys.argv)),
        )
    except Exception as error:
        _end(bad_flag(error), 2)


def read_config() -> Config:
    """The validated configuration that the flags give.

    Raises:
      ValueError: a field is unknown or has the wrong type; the message names it.
      OSError: the file does not exist.
    """
    values = flags.FLAGS.config
    # An error of loading the file is raised when its fields are read.
    return Config.from_dict(
        dict(values.items()) if hasattr(values, "items") else values
    )


def path(name: str) -> Path:
    """The path that a flag gives, where ~ is the user's home.

    Raises:
      ValueError: the flag is empty.
    """
    text = str(flags.FLAGS[name].value or "")
    require(bool(text), f"--{name} is empty: pass --{name}=PATH")
    return expand(text)


def output(name: str) -> Path | None:
    """Path of the result file that a flag names, checked; None if not given.

    Raises:
      ValueError: the path is a directory, or a file that is not JSON.
      OSError: no file can be created in its directory.
    """
    if not flags.FLAGS[name].value:
        return None
    file = path(name)
    files.require_writable(file)
    if files.exists(file):
        try:
            files.read_json(file)
        except files.CorruptFileError:
            raise ValueError(
                f"{file} holds something else than JSON: name another --{name}"
            ) from None
    return file


def expand(text: str) -> Path:
    """The path with ~ expanded: a shell does not expand it after a "="."""
    return Path(os.path.expanduser(text))


def integers(name: str) -> list[int]:
    """The positive integers that a flag lists.

    Raises:
      ValueError: the list is empty, or has an entry of another kind.
    """
    words = [str(word) for word in flags.FLAGS[name].value or ()]
    require(
        bool(words) and all(word.isdecimal() and int(word) for word in words),
        f"--{name}={','.join(words)} is no list of positive integers: write them with "
        f"commas, as in --{name}=1,8",
    )
    return [int(word) for word in words]


def _join_processes() -> None:
    values = flags.FLAGS
    if values.coordinator:
        distributed.initialize(
            values.coordinator, values.num_processes, values.process_id
        )
    elif values.distributed:
        distributed.initialize("", 0, 0)


def _missing_device() -> tuple[str, int] | None:
    """Message and exit status if JAX has no device of the requested kind, else None."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    try:
        jax.devices()
        return None
    except Exception:  # many types, some without a message
        kind = f"JAX_PLATFORMS={platforms}" if platforms else "this machine"
        return (
            f"JAX finds no device for {kind}: unset JAX_PLATFORMS, set it to cpu, or "
            "install what the device needs, as pip install -e '.[cuda]' does",
            2,
        )


def _is_given(name: str) -> bool:
    flag = flags.FLAGS[name]
    return bool(flag.present) and flag.value not in ("", [], [""])


def _require_positional(rest: Sequence[str], wanted: str) -> None:
    if wanted and not any(rest[:1]):
        raise ValueError(f"{wanted} is missing: write it after the program's name")
    if surplus := rest[1:] if wanted else rest:
        also = f", and only one {wanted} is allowed" if wanted else ""
        raise ValueError(
            f"unknown argument {surplus[0]!r}: flags are written --name=value{also}"
        )


def _readable(word: str) -> str:
    """A word of the command line as absl reads it.

    In the value of --config ~ is expanded; a list, a,b, becomes a tuple, ('a', 'b').

    Raises:
      ValueError: the word is not UTF-8.
    """
    require(
        not any("\ud800" <= character <= "\udfff" for character in word),
        f"{word!r} is not UTF-8 text: write it in UTF-8",
    )
    name, equals, value = word.partition("=")
    if equals and value and name in ("--config", "-config"):
        return f"{name}={expand(value)}"
    field = name.removeprefix("-").removeprefix("-")
    if equals and field in _lists() and not value.startswith(("(", "[")):
        return f"{name}={tuple(split_list(value))!r}"
    return word


@functools.cache
def _lists() -> set[str]:
    """The flags of the configuration's fields that are lists."""
    tree = Config().to_config_dict().to_dict()
    return {
        f"config.{section}.{name}"
        for section, fields in tree.items()
        if isinstance(fields, dict)
        for name, value in fields.items()
        if isinstance(value, tuple)
    }


def _check_config(argv: Sequence[str]) -> None:
    """Raises ValueError if --config is no file or a field is unknown."""
    config = Config().complete().to_dict()
    known = dict(usage.fields(config))
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        name = name.removeprefix("-").removeprefix("-") if name[:1] == "-" else ""
        if name == "config":
            file = expand((value if equals else following).partition(":")[0])
            require(file.is_file(), f"--config={file} is no file: pass --config=FILE")
        name = name.removeprefix("no")
        field = name.removeprefix("config.")
        if name != field and field not in {*known, *config}:
            near = difflib.get_close_matches(field, known, 1)
            hint = f"write --config.{near[0]}, or see --help" if near else "see --help"
            raise ValueError(f"--{name} is no field of the configuration: {hint}")


def bad_flag(error: Exception, required: Mapping[str, str] | None = None) -> str:
    """One sentence about an error in the command line."""
    text = " ".join(str(error).split()).removeprefix("flag ")
    if isinstance(error, flags.UnrecognizedFlagError):
        name = " ".join(error.flagname.split())
        if name.startswith("config.") and "config" in (required or {}):
            return "--config is missing: pass --config=FILE"
        near = difflib.get_close_matches(name, [flag.name for flag in _own_flags()], 1)
        hint = f"write --{near[0]}, or see --help" if near else "see --help"
        return f"--{name} is no flag of this program: {hint}"
    if "Error whilst parsing config file" in text:  # its cause is the last line
        cause = str(error).strip().rpartition("\n")[2]
        return f"{text.partition(': Error')[0]} cannot be loaded ({cause})"
    if not isinstance(error, flags.Error | ValueError):  # get_config raised it
        return f"--config cannot be loaded ({type(error).__name__}: {text})"
    for pattern, rule in RULES.items():
        text = re.sub(f": .*{pattern}.*", f" {rule}", text)
    return text


def _own_flags() -> list[flags.Flag]:
    """Flags that this program defines, without those of other libraries."""
    by_module = flags.FLAGS.flags_by_module_dict()
    modules = (sys.argv[0], *(name for name in by_module if name.startswith("lm_jax.")))
    return [flag for name in modules for flag in by_module.get(name, [])]


def _help(required: Mapping[str, str]) -> str:
    config, source, listed = None, "", []
    if "config" in flags.FLAGS:
        config, source = Config(), "lm_jax/config.py"
        if (values := flags.FLAGS["config"].value) is not None:
            config = Config.from_dict(values)
            default = str(flags.FLAGS["config"].default_as_str).strip("'")
            source = os.path.relpath(default)
    for flag in _own_flags():
        default = str(flag.default_as_str or '""').strip("'")
        if flag.name in required:
            default = f"none, so pass --{flag.name}={required[flag.name]}"
        elif flag.name == "config":
            default = source
        elif "default" in flag.help.lower():
            default = ""
        name = f"[no]{flag.name}" if flag.boolean else flag.name
        listed.append(usage.Flag(name, flag.help, default))
    listed.append(usage.Flag("help", "Show this text."))
    about = sys.modules["__main__"].__doc__ or ""
    return usage.describe(about, listed, config and config.complete().to_dict(), source)


def _with_flags(text: str) -> str:
    """A message with the flags of this program in place of fields: SampleConfig.top_k
    becomes --top_k, or --config.sample.top_k."""

    def flag(field: re.Match[str]) -> str:
        section, name = field[1].lower(), field[2]
        if name in flags.FLAGS and section in ("sample", "evaluate"):
            return f"--{name}"
        whole = f"config.{section}.{name}"
        return f"--{whole}" if "config" in flags.FLAGS else field[0]

    return re.sub(r"\b([A-Z]\w*)Config\.([a-z]\w*)", flag, text)


def _end(text: str, status: int) -> NoReturn:
    """Prints the text, as an error if status is not 0, and ends the program."""
    try:
        if status:
            print(f"error: {text}", file=sys.stderr)
        else:
            print(text)
        sys.stdout.flush()
    except OSError:  # stdout is closed or full; Python would flush it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or 1
    sys.exit(status)
