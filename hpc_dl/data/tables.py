# SPDX-License-Identifier: Apache-2.0
"""Two real tables for the linear chapters of the course: diabetes (regression) and breast cancer (two classes)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hpc_dl.data import scikit
from hpc_dl.data.base import Arrays, Data
from hpc_dl.data.split import held_back_numbers

Kind = Literal["float32", "float64"]


def diabetes(held_back: float = 0.2, seed: int = 0, dtype: Kind = "float32") -> Data:
    """442 patients, 10 measurements each, and how their diabetes had progressed a year later.

    Inputs (m, 10) and target (m, 1) have mean 0 and deviation 1 over the training part.
    Source: B. Efron et al., Least angle regression, Annals of Statistics 32, 2004.

    Args:
        held_back: Fraction held back for evaluation.
        seed: Which samples are held back.
        dtype: Type of inputs and target.
    """
    inputs, target = scikit.table("diabetes")
    train, evaluation = held_back_numbers(len(inputs), held_back, seed)
    inputs, target = _standardised(inputs, train), _standardised(target[:, None], train)
    return _data(inputs, target, train, evaluation, dtype)


def breast_cancer(held_back: float = 0.2, seed: int = 0, dtype: Kind = "float32") -> Data:
    """569 tumours, 30 measurements of their cells' nuclei each; target 1 where benign, 0 where malignant.

    Inputs (m, 30) have mean 0 and deviation 1 over the training part; target (m, 1).
    Source: W. Street, W. Wolberg and O. Mangasarian, Nuclear feature extraction for breast tumor diagnosis, 1993.

    Args:
        held_back: Fraction of each class held back for evaluation.
        seed: Which samples are held back.
        dtype: Type of inputs and target.
    """
    inputs, target = scikit.table("breast_cancer")
    train, evaluation = held_back_numbers(len(inputs), held_back, seed, classes=target)
    return _data(_standardised(inputs, train), target[:, None], train, evaluation, dtype)


def _standardised(columns: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 over the training part: the evaluation part must not leak into it."""
    standardised: np.ndarray = (columns - columns[train].mean(0)) / columns[train].std(0)
    return standardised


def _data(inputs: np.ndarray, target: np.ndarray, train: np.ndarray, evaluation: np.ndarray, dtype: Kind) -> Data:
    inputs, target = inputs.astype(dtype), target.astype(dtype)
    return Data(Arrays(inputs[train], target[train]), Arrays(inputs[evaluation], target[evaluation]))
