"""The player: replays stored sampling traces of the families side by side."""

from typing import Any

from experiments.report.series import Results, Source, families
from experiments.report.templating import css_color, render_page

Scene = dict[str, Any]


def scenes(results: Results) -> list[Scene]:
    """The scenes of the player: one sample of every family, and infilled gaps.

    Returns:
      Scenes with a name and panels. A panel has label, color, sees_masks (False for
      left-to-right families, whose later positions are blank) and trace, in the format
      of `lm_jax.sampling.trace`.
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
        found.append({"name": f"Sample {i + 1}", "panels": panels})
    for column in columns:
        panels = [
            _panel(column, f"{column.label}, infilled sample {i}", trace)
            for i, trace in enumerate(_traces(column, "infills"), 1)
        ]
        if panels:
            found.append({"name": f"Infilling by {column.label}", "panels": panels})
    return found


def player_page(results: Results) -> str:
    """A page with the player alone, for a notebook's cell.

    Raises:
      ValueError: if the results hold no trace.
    """
    found = scenes(results)
    if not found:
        raise ValueError(
            "these results hold no traces: run experiments.compare again with this "
            "version, which stores them"
        )
    return render_page("player.html", title="Sampling, step by step", scenes=found)


def _panel(column: Source, label: str, trace: dict[str, Any]) -> dict[str, Any]:
    return {
        "label": label,
        "color": css_color(column.color),
        "sees_masks": bool(column.numbers.get("can_look_ahead")),
        "trace": trace,
    }


def _traces(column: Source, name: str) -> list[dict[str, Any]]:
    return column.numbers.get(name) or []
