# SPDX-License-Identifier: Apache-2.0
"""Real handwritten digits that need no network: the 1,797 images of 8 x 8 points in scikit-learn's wheel."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from hpc_dl.data import scikit
from hpc_dl.data.base import Arrays, Data
from hpc_dl.data.split import held_back_numbers


def load(
    held_back: float = 0.2,
    seed: int = 0,
    form: Literal["image28", "image8", "flat"] = "image28",
    target: Literal["class", "input"] = "class",
    shift: int = 0,
) -> Data:
    """The digits, a fixed part of every class held back for evaluation.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).

    Args:
        held_back: Fraction held back; the same fraction of each class.
        seed: Which samples are held back.
        form: "image28": (m, 1, 28, 28), enlarged as MNIST's networks want it, mean 0 and deviation 1;
            "image8": (m, 1, 8, 8), values 0 to 1; "flat": (m, 64), values 0 to 1.
        target: "class": the digit, 0 to 9; "input": the image itself, for autoencoders.
        shift: Every training image also shifted by so many points up, down, left and right: five times as many, so that
            a network learns not to care where exactly a digit stands. 0 for none; not with form "flat".

    Raises:
        HpcDlError: scikit-learn is not installed, or the fraction is not between 0 and 1.
    """
    images, classes = scikit.table("digits")
    inputs = _formed(torch.from_numpy(images / 16).float().reshape(-1, 1, 8, 8), form)
    labels = inputs if target == "input" else torch.from_numpy(classes.astype(np.int64))
    train, evaluation = held_back_numbers(len(classes), held_back, seed, classes)
    held_back_part = Arrays(inputs[evaluation], labels[evaluation])
    inputs, labels = inputs[train], labels[train]
    if shift and form != "flat":
        moves = ((0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift))
        inputs, labels = torch.cat([inputs.roll(move, dims=(2, 3)) for move in moves]), labels.repeat(len(moves))
    return Data(Arrays(inputs, labels), held_back_part)


def _formed(images: torch.Tensor, form: str) -> torch.Tensor:
    if form == "image8":
        return images
    if form == "flat":
        return images.flatten(1)
    large = F.pad(F.interpolate(images, scale_factor=3, mode="nearest"), (2, 2, 2, 2))  # 8 -> 24 -> 28
    return (large - large.mean()) / large.std()
