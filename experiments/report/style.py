"""How figures look and how they are saved: the one style file of the report."""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

INK = "#1d2430"  # text and axes; the page replaces it by the colour of its own text
WIDTH = 4.1  # inches: text of 9 points stays legible where a phone shrinks the figure
FIGURE_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100.0,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "grid.alpha": 0.3,
    "grid.color": "#8b93a1",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.0,
    "savefig.dpi": 200.0,
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "svg.hashsalt": "lm_jax",  # the same figure is the same file
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a story is no formula
    "xtick.color": INK,
    "ytick.color": INK,
}
# Without these, files would carry the date and the version of matplotlib.
_METADATA = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draws in the style of the report and leaves matplotlib's own settings alone."""

    @functools.wraps(draw)
    def in_style(*args: Any, **kwargs: Any) -> Figure:
        with _style():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # lays it out once, for every file format
            figure.set_layout_engine("none")
        return figure

    return in_style


def render(figure: Figure, kind: str) -> bytes:
    """The figure as a "png" on white, or as an "svg" without a background."""
    file = io.BytesIO()
    with _style():
        figure.savefig(
            file, format=kind, transparent=kind == "svg", metadata=_METADATA[kind]
        )
    return file.getvalue()


def legend_above(
    figure: Figure, handles: Sequence[Patch | Line2D], ncols: int = 2
) -> None:
    """A legend above the axes, where it can hide nothing, in as many columns as fit."""
    legend = figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=ncols,
        columnspacing=1.4,
        handlelength=2.4,
        borderaxespad=0.2,
    )
    if ncols > 1 and legend.get_window_extent().width > figure.bbox.width:
        legend.remove()
        legend_above(figure, handles, ncols - 1)


def only_vertical_grid(axes: Axes) -> None:
    """For horizontal bars and intervals, whose rows need no line."""
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """This style on matplotlib's defaults: a user's own settings change no figure."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(FIGURE_STYLE)
        yield
