"""A table as plain rows of text, for Markdown and HTML."""

import re
from collections.abc import Iterable
from typing import NamedTuple


class Table(NamedTuple):
    """Rows of text under a header; the first cell of a row names the row.

    Attributes:
      name: key and anchor of the table.
      caption: title with units.
      header: header cells.
      rows: rows with as many cells as the header.
      note: explanation below the table.
      is_published: whether the numbers are the paper's and not this run's.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""
    is_published: bool = False


def to_markdown(table: Table) -> str:
    """A Markdown table, with its caption above in bold and its note below."""
    header, *rows = (map(escape_markdown, row) for row in (table.header, *table.rows))
    lines = [f"**{escape_markdown(table.caption)}**", "", markdown_rows(header, rows)]
    if table.note:
        lines += ["", escape_markdown(table.note)]
    return "\n".join(lines)


def markdown_rows(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Header and rows in Markdown as they are, with numbers aligned to the right."""
    header = list(header)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def to_text(*rows: Iterable[object]) -> str:
    """Rows of a table for a terminal: the first column to the left, others right."""
    cells = [tuple(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        [first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]
        for first, *rest in cells
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def escape_markdown(text: str) -> str:
    """Escapes the text for one cell: no markup, no HTML, no column break, one line."""
    text = re.sub(r"([\\`*_<>|~#])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("](", "]\\(")
