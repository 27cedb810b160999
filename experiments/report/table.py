"""A table as plain rows of text, which Markdown and page both show."""

import re
from collections.abc import Iterable
from typing import NamedTuple


class Table(NamedTuple):
    """Rows of text under a header; the first cell of a row names the row.

    Attributes:
      name: key and anchor.
      caption: what the table shows, with units.
      header, rows: cells, as many in each row as in the header.
      note: what a reader must know to read it rightly.
      is_published: whether these are the study's numbers and not this run's.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""
    is_published: bool = False


def to_markdown(table: Table) -> str:
    """A pipe table under its caption in bold, with its note below."""
    lines = [
        f"**{escape_markdown(table.caption)}**",
        "",
        _pipes(table.header),
        "| --- |" + " ---: |" * (len(table.header) - 1),
        *map(_pipes, table.rows),
    ]
    if table.note:
        lines += ["", escape_markdown(table.note)]
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """The text, shown as it is: no markup, no HTML, no new column, one line."""
    text = re.sub(r"([\\`*_<>|~#])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("](", "]\\(")


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(escape_markdown, cells)) + " |"
