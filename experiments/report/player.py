"""The player: families that write side by side, call by call, from stored traces."""

from typing import Any

from experiments.report.series import Results, Source, families
from experiments.report.templating import css_color, render_page

Scene = dict[str, Any]


def scenes(results: Results) -> list[Scene]:
    """What can be played: the same story number of every family, and filled gaps.

    Returns:
      Each with its name and its panels: label, color, sees_masks (left to right, what
      is to come is blank) and trace, as `lm_jax.sampling.trace` makes it.
    """
    columns = families(results)
    found = []
    num_stories = max((len(_traces(column, "traces")) for column in columns), default=0)
    for i in range(num_stories):
        panels = [
            _panel(column, column.label, trace)
            for column in columns
            for trace in _traces(column, "traces")[i : i + 1]
        ]
        found.append({"name": f"Story {i + 1}", "panels": panels})
    for column in columns:
        panels = [
            _panel(column, f"{column.label} fills gaps, story {i}", trace)
            for i, trace in enumerate(_traces(column, "infills"), 1)
        ]
        if panels:
            found.append({"name": f"Infilling by {column.label}", "panels": panels})
    return found


def player_page(results: Results) -> str:
    """A page that holds nothing but the player, for a notebook's cell.

    Raises:
      ValueError: these results hold no trace.
    """
    found = scenes(results)
    if not found:
        raise ValueError(
            "these results hold no traces: run experiments.compare of this version "
            "again, which draws the stories anew"
        )
    return render_page("player.html", title="How stories are written", scenes=found)


def _panel(column: Source, label: str, trace: dict[str, Any]) -> dict[str, Any]:
    return {
        "label": label,
        "color": css_color(column.color),
        "sees_masks": bool(column.numbers.get("can_look_ahead")),
        "trace": trace,
    }


def _traces(column: Source, name: str) -> list[dict[str, Any]]:
    return column.numbers.get(name) or []
