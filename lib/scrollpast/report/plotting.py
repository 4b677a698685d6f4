"""Plots as SVG inside a page: coloured by the page's style sheet; equal numbers give equal bytes.

A plot is painted with placeholder colours, which are then replaced by names of the page's style (`INK`, `SERIES` and so
on), so that one picture serves a dark and a light page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from scrollpast.report.sections import Plot, ReportTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, SURFACE = "#010203", "#020304", "#030405", "#040506"
SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
"""Line styles of the series, so that they differ without colours too."""
MARKERS = ("o", "s", "^", "D", "v", "P")

_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", SURFACE: "--surface"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)
}
_WIDE, _NARROW = 920, 360
_SVG, _LINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scrollpast",
    "font.family": "sans-serif",
    # A wide font that matplotlib includes: a layout with this font has room in any other font.
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "figure.constrained_layout.use": True,
    "path.simplify": True,
}

Paint = Callable[[Figure, bool], None]
"""Function that paints axes into an empty figure; the second argument is True for the narrow figure."""


def plot(
    name: str, title: str, description: str, numbers: ReportTable, paint: Paint, heights: tuple[int, int]
) -> Plot:
    """Paint a plot for wide and for narrow screens.

    Args:
        name: prefix of the ids of the picture's parts; unique on the page.
        heights: heights of the wide and of the narrow picture, in pixels.
    """
    label = f"{title}. {description}"
    wide = _draw(f"{name}-wide", label, paint, _WIDE, heights[0], is_narrow=False)
    narrow = _draw(f"{name}-narrow", label, paint, _NARROW, heights[1], is_narrow=True)
    return Plot(title, description, wide, narrow, numbers)


def grid_of(figure: Figure, number: int, columns: int) -> list[Axes]:
    """``number`` axes in a grid, row by row."""
    rows = -(-number // columns)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in axes[number:]:
        unused.remove()
    return list(axes[:number])


def legend_above(figure: Figure, axes: Axes, columns: int) -> None:
    """Draw one legend above the plot for the lines of all axes, which are the same in every axes."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=min(columns, len(handles)))


def _draw(name: str, label: str, paint: Paint, width: int, height: int, *, is_narrow: bool) -> Markup:
    size = 10.5 if is_narrow else 11.5
    style = {**_STYLE, "font.size": size, "axes.titlesize": size, "legend.fontsize": size}
    with rc_context(style):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        paint(figure, is_narrow)
        content = io.BytesIO()
        # Without date and version, equal numbers give equal bytes.
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(content, format="svg", metadata=nothing)
    return _for_page(content.getvalue(), name, label)


def _for_page(content: bytes, name: str, label: str) -> Markup:
    """Picture as an element of a page: with its own ids, the page's font and colours, and a label."""
    root = ElementTree.fromstring(content)  # noqa: S314 (it was made in this module)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", label)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        if (identifier := element.attrib.get("id")) is not None:
            element.set("id", f"{name}-{identifier}")
        if (target := element.attrib.pop(_LINK, None)) is not None:
            element.set("href", f"#{name}-{target.removeprefix('#')}")
        if "clip-path" in element.attrib:
            element.set("clip-path", element.attrib["clip-path"].replace("url(#", f"url(#{name}-"))
        if (style := element.attrib.get("style")) is not None:
            element.set("style", _styled(style))
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in ("metadata", "style")]:
            parent.remove(child)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 (labels are escaped by the writer)


def _styled(style: str) -> str:
    style = re.sub(r"#0[0-9a-f]{5}\b", lambda found: _named(found[0]), style)
    # The size stays, the family is the page's.
    style = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", style)
    return re.sub(r"font-family: [^;]*;?", "", style)


def _named(colour: str) -> str:
    return f"var({_VARIABLES[colour]})" if colour in _VARIABLES else colour
