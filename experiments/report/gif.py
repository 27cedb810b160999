"""The player as an animated picture: a sample of every family, call by call.

Text stands where it will stand in the end; what is still masked is a grey block.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from experiments.report.series import Results, Source, families
from lm_jax.sampling.trace import END

COLUMNS, FONT_SIZE, MARGIN = 46, 14, 14  # characters of a panel; pixels
MAX_FRAMES = 60
MILLISECONDS, LAST_MILLISECONDS = 150, 3_000  # of a frame, and of the last one
PAPER, INK, SOFT, MASKED = "#ffffff", "#1d2430", "#566072", "#c6ccd6"

# Character, row, column, and index of the token that it belongs to.
Cell = tuple[str, int, int, int]


def player_gif(results: Results, number: int = 0) -> bytes:
    """Sample `number` of every family as a GIF.

    Raises:
      ValueError: the results have no such trace.
    """
    columns = [c for c in families(results) if c.numbers.get("traces", [])[number:]]
    if not columns:
        raise ValueError(
            "these results hold no traces: run experiments.compare again with this "
            "version, which stores them"
        )
    panels = [Panel(c, c.numbers["traces"][number]) for c in columns]
    num_calls = max(panel.num_calls for panel in panels)
    rows = max(panel.num_rows for panel in panels)
    calls = np.unique(np.linspace(0, num_calls, MAX_FRAMES).astype(int)).tolist()
    frames = [_frame(panels, rows, call, num_calls) for call in calls]
    file = io.BytesIO()
    frames[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[MILLISECONDS] * (len(frames) - 1) + [LAST_MILLISECONDS],
        loop=0,
    )
    return file.getvalue()


class Panel:
    """A family's sample: where its characters stand, and when its tokens came.

    Attributes:
      source: the family.
      num_calls, num_rows: network calls, and lines of text.
      cells: all characters of the text.
    """

    def __init__(self, source: Source, trace: dict[str, Any]):
        self.source, self._given = source, trace["given"]
        steps = sorted({step for step, *_ in trace["events"]})
        self._call_of = {step: i + 1 for i, step in enumerate(steps)}
        self._events = trace["events"]
        self.num_calls = len(steps)
        self._last = self.state(self.num_calls)[0]
        self.cells = list(_layout(self._last))
        self.num_rows = max((row for _, row, _, _ in self.cells), default=0) + 1

    def state(self, call: int) -> tuple[list[Any], set[int]]:
        """The pieces after this many calls, and the positions of the last call."""
        pieces, new = list(self._given), set()
        for step, position, piece in self._events:
            if self._call_of[step] <= call:
                pieces[position] = piece
                if self._call_of[step] == call:
                    new.add(position)
        return pieces, new

    def is_done(self, pieces: list[Any], position: int) -> bool:
        """Whether a position has its last piece."""
        return pieces[position] == self._last[position]


def _layout(pieces: list[Any]) -> Iterator[Cell]:
    """Cells of the text up to its end, in lines that are broken between words."""
    if END in pieces:
        pieces = pieces[: pieces.index(END)]
    text = [(c, i) for i, piece in enumerate(pieces) for c in piece or ""]
    row = column = start = 0
    while start < len(text):
        end = start + 1  # a word, with the white space before it
        while end < len(text) and not text[end][0].isspace():
            end += 1
        if column and column + end - start > COLUMNS:
            row, column = row + 1, 0
        for character, position in text[start:end]:
            if character == "\n" or column == COLUMNS:
                row, column = row + 1, 0
            if character != "\n" and (column or not character.isspace()):
                yield character, row, column, position
                column += 1
        start = end


def _frame(panels: list[Panel], rows: int, call: int, num_calls: int) -> Image.Image:
    path = font_manager.findfont("DejaVu Sans Mono")
    font = ImageFont.truetype(path, FONT_SIZE)
    width, height = int(font.getlength("M")), round(1.5 * FONT_SIZE)
    panel_width = COLUMNS * width + 2 * MARGIN
    size = (panel_width * len(panels), (rows + 2) * height + 2 * MARGIN)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    for i, panel in enumerate(panels):
        left, top = i * panel_width + MARGIN, MARGIN
        color = panel.source.color
        shown = min(call, panel.num_calls)
        pieces, new = panel.state(shown)
        draw.text((left, top), panel.source.label, color, font)
        label = f"{shown} of {panel.num_calls} calls"
        x = left + COLUMNS * width - font.getlength(label)
        draw.text((x, top), label, SOFT, font)
        sees_masks = panel.source.numbers.get("can_look_ahead")
        for character, row, column, position in panel.cells:
            x, y = left + column * width, top + (row + 2) * height
            if panel.is_done(pieces, position):
                is_new = position in new and call < num_calls
                draw.text((x, y), character, color if is_new else INK, font)
            elif sees_masks and not character.isspace():
                draw.rectangle((x, y + 3, x + width - 1, y + FONT_SIZE + 1), MASKED)
    return image.quantize(64)
