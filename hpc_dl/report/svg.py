# SPDX-License-Identifier: Apache-2.0
"""Matplotlib figures as inline SVG: text stays text, colours follow the page, ids are unique on it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpc_dl.scaling.split import PARTS

# Stand-ins drawn by matplotlib, replaced by the page's CSS variables, so that plots turn dark with the page.
COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "accent": "#040404",
    "warm": "#050505",
    "paper": "#060606",
    "part-1": "#070701",
    "part-2": "#070702",
    "part-3": "#070703",
    "part-4": "#070704",
    "part-5": "#070705",
    "part-6": "#070706",
    "part-7": "#070707",
}
PART_COLOURS = {part: COLOURS[f"part-{number}"] for number, part in enumerate(PARTS, start=1)}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
}


@dataclass
class Drawing:
    """A plot while it is drawn and the text it becomes."""

    axes: Axes
    svg: str = ""


@contextmanager
def canvas(name: str, description: str, width: float = 5.4, height: float = 3.6) -> Iterator[Drawing]:
    """Axes to draw on, in the report's style, sizes in inches; `svg` is ready when the block ends."""
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        drawn = Figure(figsize=(width, height), layout="constrained")
        drawing = Drawing(drawn.add_subplot())
        yield drawing
        drawing.svg = _inline(drawn, name, description)


def _inline(drawn: Figure, name: str, description: str) -> str:
    """The figure as an <svg> element whose ids all start with `name`."""
    text = io.StringIO()
    drawn.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"font-family: [^;\"]*;", "", svg)
    for role, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{role})")
    opening = f'<svg role="img" aria-label="{escape(description)}" class="plot" id="{name}"'
    return re.sub(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', rf"{opening} \1>", svg, count=1)
