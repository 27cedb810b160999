"""HTML templates, and SVG figures in the colours of the page."""

import base64
import hashlib
import re
from importlib import resources
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from experiments.report.figures import Plot
from experiments.report.series import PALETTE, Results
from experiments.report.style import INK, render


class Drawing(NamedTuple):
    """A figure on a page."""

    name: str
    svg: Markup
    title: str
    caption: str


def render_page(template: str, **values: Any) -> str:
    """A self-contained page: style and script are part of it.

    Args:
      template: file name in templates/.
      **values: variables of the template; their text is escaped.
    """
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader("experiments.report"),
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "color_name": color_name,
        "set_aside": _set_aside,
        "sha256": _sha256,
    }
    parts = {"style": _read("page.css"), "script": _read("page.js")}
    return environment.get_template(template).render(palette=PALETTE, **parts, **values)


def draw(name: str, plot: Plot, results: Results) -> Drawing:
    """The figure as part of a page: the page's text colour, and unique ids."""
    svg = render(plot.draw(results), "svg").decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href").replace(INK, "currentColor")
    for color in PALETTE:
        svg = svg.replace(color.lower(), css_color(color))
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", svg)
    label = f'<svg role="img" aria-labelledby="{name}-title"'
    heading = f'<title id="{name}-title">{escape(plot.title)}</title>'
    head, body = svg.split(">", 1)
    svg = Markup(f"{head.replace('<svg', label, 1)}>{heading}{body}")
    return Drawing(name, svg, plot.title, plot.caption)


def css_color(color: str) -> str:
    """The CSS variable of a colour of the palette."""
    return f"var(--{color_name(color)})"


def color_name(color: str) -> str:
    """The name of a colour in the style sheet."""
    return f"c-{color[1:].lower()}"


def _read(name: str) -> Markup:
    file = resources.files("experiments.report").joinpath("templates", name)
    return Markup(file.read_text("utf-8"))


def _set_aside(cell: str) -> Markup:
    """The cell, with its interval or number of draws in a separate span."""
    cell = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", cell)
    match = re.fullmatch(r"([^\[(]*\d) ([\[(].*)", cell)
    if not match:
        return escape(cell)
    return Markup('{} <span class="aside">{}</span>').format(*match.groups())


def _sha256(text: Any) -> str:
    """The hash of a script, for the content security policy."""
    digest = hashlib.sha256(str(text).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
