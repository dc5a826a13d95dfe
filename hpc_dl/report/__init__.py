# SPDX-License-Identifier: Apache-2.0
"""What does a study say? Worked out once, then written as Markdown, CSV, JSON and one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from hpc_dl.report import data, html, markdown
from hpc_dl.report.study import Study


def write(study: Study, folder: Path) -> list[Path]:
    """Write report.html, .md, .json, .csv (sizes) and report-runs.csv into `folder`; the paths written."""
    texts = {
        "report.html": html.page(study),
        "report.md": markdown.page(study),
        "report.json": data.json_text(study),
        "report.csv": data.csv_text(data.size_facts(study)),
        "report-runs.csv": data.csv_text([data.run_facts(measured) for measured in study.measured]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
