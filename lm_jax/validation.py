"""Validation of config values: `require`, and a base class for config dataclasses."""

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from typing import Any, cast

from flax.core import FrozenDict
from ml_collections import ConfigDict

WIDE = ("seed", "max_tokens")  # integers that may need more than 32 bits
NAMES = {str: "texts", int: "integers below 2^31", float: "finite numbers"}
EXAMPLES = {str: "a,b", int: "8,32", float: "0.7,1"}
MAX_SEED = 2**32 - 1  # JAX and Grain reduce larger ones to this range


def require_seed(seed: int, name: str = "seed") -> None:
    """Raises ValueError unless 0 <= seed <= MAX_SEED."""
    require(
        0 <= seed <= MAX_SEED,
        f"{name}={seed} must lie between 0 and {MAX_SEED:,}: another seed would "
        "give the same numbers as one of these",
    )


def require(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def split_list(text: str) -> list[str]:
    """The entries of a comma-separated list; "\\," is a comma within an entry.

    >>> split_list("a.txt, b\\\\,c.txt")
    ['a.txt', 'b,c.txt']
    """
    parts = re.split(r"(?<!\\),", text)
    return [part.replace("\\,", ",").strip() for part in parts if part.strip()]


def as_tuple(value: Any, wanted: Any, name: str) -> tuple[Any, ...]:
    """A list of entries as a tuple[X, ...]; text is split at its commas.

    Raises:
      ValueError: an entry is no X; names the field.
    """
    kind = typing.get_args(wanted)[0]
    entries = split_list(value) if isinstance(value, str) else value
    try:
        is_list = isinstance(entries, list | tuple)
        found = tuple(kind(x) for x in entries) if is_list else ()
        types = {str: str, int: str | int, float: str | int | float}
        is_right = is_list and all(
            isinstance(x, types[kind]) and not isinstance(x, bool) for x in entries
        )
        is_right &= kind is str or all(
            math.isfinite(x) and (kind is float or abs(x) < 2**31) for x in found
        )
    except (TypeError, ValueError, OverflowError):
        is_right, found = False, ()
    require(
        is_right,
        f"{name}={value!r} is no list of {NAMES[kind]}: write them with commas, as in "
        f"{EXAMPLES[kind]}",
    )
    return found


class Validated:
    """Base class of the config dataclasses: checks the type of every field."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value, wanted = getattr(self, field.name), cast(type, field.type)
            if typing.get_origin(wanted) is tuple:
                entries = as_tuple(value, wanted, f"{type(self).__name__}.{field.name}")
                self._set(field.name, entries)
                continue
            if typing.get_origin(wanted) is Mapping:
                self._set(field.name, FrozenDict(self._mapping(field.name)))
                continue
            if wanted is float and type(value) is int:
                self._set(field.name, float(value))
            elif type(value) is not wanted:
                raise ValueError(
                    f"{type(self).__name__}.{field.name}={value!r} is a "
                    f"{type(value).__name__}; it must be a {wanted.__name__}"
                )
            require(
                wanted is not int or field.name in WIDE or abs(value) < 2**31,
                f"{type(self).__name__}.{field.name}={value} is too large: it must be "
                f"less than {2**31:,}",
            )
            require(
                wanted is not float or math.isfinite(value),
                f"{type(self).__name__}.{field.name}={value} is not finite: give "
                "a finite number",
            )
        self.validate()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _mapping(self, name: str) -> Mapping[str, Any]:
        value = getattr(self, name)
        require(
            isinstance(value, Mapping | ConfigDict),
            f"{type(self).__name__}.{name}={value!r} is no mapping",
        )
        return value.to_dict() if isinstance(value, ConfigDict) else value

    def resolve_auto(self, num_devices: int) -> Any:
        """The section with a choice in place of every "auto"; subclasses override."""
        del num_devices
        return self

    def validate(self) -> None:
        """Checks the rules that types cannot express; subclasses override it."""

    def at_least(self, minimum: int, *names: str) -> None:
        """Raises ValueError unless each of these fields is at least `minimum`."""
        for name in names:
            require(
                getattr(self, name) >= minimum,
                f"{type(self).__name__}.{name}={getattr(self, name)} is too small: "
                f"it must be at least {minimum}",
            )

    def share(self, *names: str) -> None:
        """Raises ValueError unless each of these fields lies in [0, 1]."""
        for name in names:
            require(
                0.0 <= getattr(self, name) <= 1.0,
                f"{type(self).__name__}.{name}={getattr(self, name)} is no share: "
                "it must lie in [0, 1]",
            )

    def one_of(self, name: str, *choices: str) -> None:
        """Raises ValueError unless the field has one of these values."""
        require(
            getattr(self, name) in choices,
            f"{type(self).__name__}.{name}={getattr(self, name)!r} is unknown: "
            f"choose one of {', '.join(map(repr, choices))}",
        )
