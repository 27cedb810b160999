"""Validation of config values: `require`, and a base class for config dataclasses."""

import dataclasses
import math
import re
from typing import cast

WIDE = ("seed", "max_tokens")  # integers that may need more than 32 bits
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


class Validated:
    """Base class of the config dataclasses: checks the type of every field."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value, wanted = getattr(self, field.name), cast(type, field.type)
            if wanted is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
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
