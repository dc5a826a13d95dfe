# SPDX-License-Identifier: Apache-2.0
"""The study as Markdown and as the text a terminal shows."""

from __future__ import annotations

from hpc_dl.report import tables, verdict
from hpc_dl.report.sections import outline
from hpc_dl.report.study import Study
from hpc_dl.report.table import as_markdown, as_text

MOST_RUNS = 200


def page(study: Study) -> str:
    """The report as Markdown, without pictures."""
    parts = [f"# Scaling of {study.name}", verdict.verdict(study), verdict.advice(study), verdict.heading(study) + "."]
    parts.append("\n".join(f"- **{note.level.capitalize()}**: {note.text}" for note in study.notes))
    for section in outline(study, MOST_RUNS):
        parts += [f"## {section.title}", *section.texts, *map(as_markdown, section.tables)]
    return "\n\n".join(filter(None, parts)) + "\n"


def terminal(study: Study) -> str:
    """The table of sizes with the verdict and the notes."""
    notes = [f"{note.level}: {note.text}" for note in study.notes]
    table = as_text(tables.size_table(study))
    return "\n".join([verdict.heading(study), table, "", verdict.verdict(study), verdict.advice(study), *notes])
