# SPDX-License-Identifier: Apache-2.0
"""What destinations share: files that are whole or not there, and packages that may be missing."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from hpc_dl.errors import HpcDlError


def put(path: Path, text: str) -> None:
    """Write a file anew, so that a reader finds the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def library(module: str, package: str, asked: str) -> Any:
    """A module of a package that a request needs, and few others do.

    Raises:
        HpcDlError: It is not installed; names the command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        remedy = f"pip install 'hpc_dl[export]', or {package} alone"
        raise HpcDlError(asked, f"{package} cannot be imported ({error})", remedy) from error
