# SPDX-License-Identifier: Apache-2.0
"""Real handwritten digits that need no network: the 1,797 images of 8 x 8 points in scikit-learn's wheel."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from hpc_dl.data.base import Arrays, Data
from hpc_dl.errors import HpcDlError


def load(
    held_back: float = 0.2,
    seed: int = 0,
    form: Literal["image28", "image8", "flat"] = "image28",
    target: Literal["class", "input"] = "class",
) -> Data:
    """The digits, a fixed part of every class held back for evaluation.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).

    Args:
        held_back: Fraction held back; the same fraction of each class.
        seed: Which samples are held back.
        form: "image28": (m, 1, 28, 28), enlarged as MNIST's networks want it, mean 0 and deviation 1;
            "image8": (m, 1, 8, 8), values 0 to 1; "flat": (m, 64), values 0 to 1.
        target: "class": the digit, 0 to 9; "input": the image itself, for autoencoders.

    Raises:
        HpcDlError: scikit-learn is not installed, or the fraction is not between 0 and 1.
    """
    if not 0 < held_back < 1:
        raise HpcDlError(f"held_back = {held_back}", "out of range", "give a fraction between 0 and 1")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise HpcDlError(
            "the handwritten digits", "scikit-learn is not installed", "pip install 'hpc_dl[data]'"
        ) from None
    images, classes = load_digits(return_X_y=True)
    inputs = _formed(torch.from_numpy(images / 16).float().reshape(-1, 1, 8, 8), form)
    labels = inputs if target == "input" else torch.from_numpy(classes.astype(np.int64))
    train, evaluation = _split(classes, held_back, seed)
    return Data(Arrays(inputs[train], labels[train]), Arrays(inputs[evaluation], labels[evaluation]))


def _formed(images: torch.Tensor, form: str) -> torch.Tensor:
    if form == "image8":
        return images
    if form == "flat":
        return images.flatten(1)
    large = F.pad(F.interpolate(images, scale_factor=2.5, mode="bilinear"), (4, 4, 4, 4))  # 8 -> 20 -> 28, as MNIST
    return (large - large.mean()) / large.std()


def _split(classes: np.ndarray, held_back: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample numbers for training and for evaluation, the same fraction of every class in both."""
    order = np.random.default_rng(seed).permutation(len(classes))
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for label in np.unique(classes):
        members = order[classes[order] == label]
        cut = round(len(members) * held_back)
        parts[0].append(members[cut:])
        parts[1].append(members[:cut])
    train, evaluation = (torch.from_numpy(np.sort(np.concatenate(part))) for part in parts)
    return train, evaluation
