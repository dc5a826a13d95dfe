# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training on supercomputers.

Your own loop needs two lines:

    import hpc_dl

    with hpc_dl.start() as session:
        model, optimizer = session.distribute(model, optimizer)

Importing this package imports neither torch nor an accelerator.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "start": "hpc_dl.session",
    "distribute": "hpc_dl.session",
    "Session": "hpc_dl.session",
    "Run": "hpc_dl.run.run",
    "Follow": "hpc_dl.run.follow",
    "follow": "hpc_dl.run.guest",
    "Settings": "hpc_dl.settings",
    "Trainer": "hpc_dl.training.trainer",
    "Objective": "hpc_dl.training.objective",
    "HpcDlError": "hpc_dl.errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hpc_dl' has no attribute {name!r}")
