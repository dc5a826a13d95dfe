# SPDX-License-Identifier: Apache-2.0
"""The study as one HTML page that loads nothing from anywhere."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from hpc_dl import __version__
from hpc_dl.scaling.report import plots, tables
from hpc_dl.scaling.study import Study


def page(study: Study) -> str:
    """The whole page as text."""
    environment = Environment(
        loader=PackageLoader("hpc_dl.scaling", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        version=__version__,
        name=study.points[0].size.header.name,
        heading=tables.heading(study),
        headings=tables.HEADINGS,
        rows=[tables.row(point) for point in study.points],
        notes=study.notes,
        plots=[Markup(plots.efficiency(study)), Markup(plots.throughput(study))],
    )
