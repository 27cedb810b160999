"""The style of all figures, and how they are saved."""

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

INK = "#1d2430"  # text and axes; the page replaces it with its own text colour
WIDTH = 4.1  # inches; text of 9 points stays legible on a phone
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
    "svg.fonttype": "none",  # text, not paths: small and searchable
    "svg.hashsalt": "lm_jax",  # equal figures give equal files
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a sample is not a formula
    "xtick.color": INK,
    "ytick.color": INK,
}
# Without these, files would contain the date and the version of matplotlib.
_METADATA = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draws in the style of the report without changing matplotlib's settings."""

    @functools.wraps(draw)
    def in_style(*args: Any, **kwargs: Any) -> Figure:
        with _style():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # one layout for all file formats
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
    """A legend above the axes, in as many columns as fit."""
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
    """Removes horizontal grid lines, for rows of bars and intervals."""
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """This style on matplotlib's defaults, independent of the user's settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(FIGURE_STYLE)
        yield
