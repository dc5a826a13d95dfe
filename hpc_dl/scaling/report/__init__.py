# SPDX-License-Identifier: Apache-2.0
"""Write a study down: Markdown, CSV, JSON and one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from hpc_dl.scaling.report import html, tables
from hpc_dl.scaling.study import Study


def write(study: Study, folder: Path) -> list[Path]:
    """Write report.md, report.csv, report.json and report.html into `folder`; the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.md": tables.markdown(study),
        "report.csv": tables.csv_text(study),
        "report.json": tables.json_text(study),
        "report.html": html.page(study),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
