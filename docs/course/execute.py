# SPDX-License-Identifier: Apache-2.0
"""Run the course: every chapter and solution becomes a notebook with its results, a web page, and its figures.

python docs/course/execute.py [--output build/course] [CHAPTER.md ...]
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
CELL_TIMEOUT_SECONDS = 900


def main() -> int:
    """Execute what is asked for, or everything; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", type=Path, help="files to run; by default all chapters and solutions")
    parser.add_argument("--output", type=Path, default=Path("build/course"), help="where results go")
    given = parser.parse_args()
    output = given.output.resolve()
    (output / "work").mkdir(parents=True, exist_ok=True)
    # The kernel inherits this: `!hpc-dl` and `!mpiexec` are this environment's, and small tensors want one thread.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    failed = [path for path in given.chapters or chapters() if not execute(path.resolve(), output)]
    for path in failed:
        print(f"FAILED: {path}", file=sys.stderr)
    return 1 if failed else 0


def chapters() -> list[Path]:
    """All chapters, then all solutions, in order."""
    return sorted(HERE.glob("[0-9]*.md")) + sorted((HERE / "solutions").glob("[0-9]*.md"))


def execute(path: Path, output: Path) -> bool:
    """Run one text as a notebook; writes its notebook, web page and figures, whether it ran to its end or not."""
    name = f"{'solutions-' if path.parent.name == 'solutions' else ''}{path.stem}"
    notebook = jupytext.read(path)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    config = Config()
    # Sockets in a folder of our own, not ports: nobody else on the machine can listen in.
    config.KernelManager.transport, config.KernelManager.ip = "ipc", f"{tempfile.mkdtemp(prefix='hpc-dl-')}/kernel"
    work = output / "work" / name
    shutil.rmtree(work, ignore_errors=True)  # runs of an earlier time would be in the way
    work.mkdir(parents=True)
    resources = {"metadata": {"path": str(work)}}
    begun = time.monotonic()
    error = ""
    try:
        client = NotebookClient(
            notebook, timeout=CELL_TIMEOUT_SECONDS, startup_timeout=300, resources=resources, config=config
        )
        client.execute()
        _check_shell_commands(notebook)
    except (CellExecutionError, RuntimeError) as stopped:
        error = str(stopped)
    nbformat.write(notebook, output / f"{name}.ipynb")
    page, _ = HTMLExporter(template_name="classic").from_notebook_node(notebook)
    (output / f"{name}.html").write_text(page, encoding="utf-8")
    figures = _write_figures(notebook, output / "figures", name)
    print(f"{name}: {time.monotonic() - begun:.0f} s, {figures} figures{f'; {error}' if error else ''}", flush=True)
    return not error


def _check_shell_commands(notebook: Any) -> None:
    """A `!command` that fails does not stop a notebook: look for what our programs say when they fail."""
    for cell in notebook.cells:
        for out in cell.get("outputs", []):
            text = out.get("text", "")
            if cell.source.lstrip().startswith("!") and (
                "hpc-dl: " in text or "Traceback" in text or "not found" in text
            ):
                raise RuntimeError(f"{cell.source}\n{text}")


def _write_figures(notebook: Any, folder: Path, name: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    images = [
        out.data["image/png"]
        for cell in notebook.cells
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    ]
    for number, image in enumerate(images, start=1):
        (folder / f"{name}-{number}.png").write_bytes(base64.b64decode(image))
    return len(images)


if __name__ == "__main__":
    sys.exit(main())
