"""The player as a picture: text stands where it ends, and comes call by call."""

import io

import pytest
from made_up_results import make_results
from PIL import Image, ImageSequence

from experiments.report.gif import COLUMNS, Panel, _layout, player_gif
from experiments.report.series import families
from lm_jax.sampling.trace import END

TRACE = {
    "text": "Tom ran.",
    "nfe": 4,
    "given": ["Tom", None, None, None],
    "events": [[0, 2, "."], [2, 1, " sat"], [5, 1, None], [7, 1, " ran"], [7, 3, END]],
}


@pytest.fixture
def panel():
    return Panel(families(make_results())[1], TRACE)


def test_a_panel_follows_its_trace(panel):
    """Four calls, whatever their steps; a remasked position is free again."""
    assert panel.num_calls == 4
    states = [panel.state(call) for call in range(5)]
    assert [pieces[1] for pieces, _ in states] == [None, None, " sat", None, " ran"]
    assert [new for _, new in states] == [set(), {2}, {1}, {1}, {1, 3}]
    done = [panel.is_done(pieces, 1) for pieces, _ in states]
    assert done == [False, False, False, False, True]


def test_a_panel_shows_the_text_up_to_its_end(panel):
    assert "".join(character for character, *_ in panel.cells) == "Tom ran."
    assert [position for *_, position in panel.cells] == [0] * 3 + [1] * 4 + [2]


def test_lines_break_between_words_and_lose_none():
    """No line is longer than a panel; a word that is longer is cut."""
    words = ["cat", "a" * 20, "b" * (COLUMNS + 5), "end"] * 3
    pieces = [words[0], *(f" {word}" for word in words[1:]), "\nnew", END, " never"]
    cells = list(_layout(pieces))
    assert max(column for _, _, column, _ in cells) == COLUMNS - 1
    assert len({(row, column) for _, row, column, _ in cells}) == len(cells)
    text = "".join(character for character, *_ in cells if not character.isspace())
    assert text == "".join(words) + "new"
    lines = {}
    for character, row, _, _ in cells:
        lines[row] = lines.get(row, "") + character
    assert lines[max(lines)] == "new" and not any(x[0] == " " for x in lines.values())


def test_the_picture_plays_once_per_call(panel):
    """A frame for each call of the slowest family, and one before the first."""
    results = make_results()
    for part in results["families"].values():
        part["traces"] = [TRACE]
    image = Image.open(io.BytesIO(player_gif(results)))
    durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert durations == [150, 150, 150, 150, 3_000]


def test_without_traces_there_is_no_picture():
    results = make_results()
    for part in results["families"].values():
        part["traces"] = []
    with pytest.raises(ValueError, match="hold no traces"):
        player_gif(results)
