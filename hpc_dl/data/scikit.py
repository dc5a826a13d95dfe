# SPDX-License-Identifier: Apache-2.0
"""The real tables that come inside scikit-learn's wheel: no network, no root."""

from __future__ import annotations

import importlib

import numpy as np

from hpc_dl.errors import HpcDlError


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (m, n) and target (m) of `sklearn.datasets.load_NAME`, as they come.

    Raises:
        HpcDlError: scikit-learn is not installed.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError:
        raise HpcDlError(
            f"scikit-learn's table {name!r}", "scikit-learn is not installed", "pip install 'hpc_dl[data]'"
        ) from None
    inputs, target = getattr(datasets, f"load_{name}")(return_X_y=True)
    return inputs, target
