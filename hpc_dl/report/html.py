# SPDX-License-Identifier: Apache-2.0
"""The study as one HTML page that loads nothing from anywhere."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from hpc_dl import __version__
from hpc_dl.report import plots, verdict
from hpc_dl.report.sections import outline
from hpc_dl.report.study import Study

MOST_RUNS = 200
"""Runs listed one by one: a page of 1,000 rows serves nobody, and the CSV has them all."""


def page(study: Study) -> str:
    """The whole page as text."""
    environment = Environment(
        loader=PackageLoader("hpc_dl", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    sections = outline(study, MOST_RUNS)
    drawn = {name: Markup(plots.PLOTS[name](study)) for section in sections for name in section.plots}
    return environment.get_template("report.html.j2").render(
        version=__version__,
        name=study.name,
        verdict=verdict.verdict(study),
        advice=verdict.advice(study),
        heading=verdict.heading(study),
        notes=study.notes,
        sections=sections,
        plots=drawn,
    )
