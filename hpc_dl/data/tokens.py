# SPDX-License-Identifier: Apache-2.0
"""Text as tokens in a flat file of whole numbers, mapped into memory: nothing is read before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from hpc_dl.data.base import Data, Pair
from hpc_dl.data.mapped import Mapped
from hpc_dl.data.sharding import Indices
from hpc_dl.errors import HpcDlError

Kind = Literal["uint8", "uint16", "uint32"]


def load(train: str, evaluation: str, length: int = 1024, dtype: Kind = "uint16", vocabulary: int = 50_257) -> Data:
    """Windows of a token file for training and of another for evaluation.

    Args:
        train: File of the training text: tokens one after the other, little-endian, without a header.
        evaluation: File of the evaluation text.
        length: Tokens per window, the model's context.
        dtype: Type of a token in the files.
        vocabulary: Number of different tokens; every token must be below it.

    Raises:
        HpcDlError: A file is missing, too short, not made of such tokens, or has tokens outside of the vocabulary.
    """
    return Data(*(Windows(Path(path), length, dtype, vocabulary) for path in (train, evaluation)))


class Windows:
    """Sample i: tokens i * length to (i + 1) * length, and as target the same window one token later.

    Arguments as `load`.
    """

    def __init__(self, path: Path, length: int, dtype: str = "uint16", vocabulary: int = 50_257) -> None:
        self._path, self._length, self._vocabulary = path, length, vocabulary
        self._tokens = Mapped(path, np.dtype(dtype).newbyteorder("<"), offset=0, shape=None)
        self._windows = (len(self._tokens) - 1) // length
        if self._windows < 1:
            raise HpcDlError(
                f"token file {path}",
                f"{len(self._tokens)} tokens, a window and the token after it need {length + 1}",
                "give a longer text or a smaller length",
            )
        step = max(1, self._windows // 64)
        self.batch(np.arange(0, self._windows, step))  # a wrong type shows in any sample: before the first step

    def __len__(self) -> int:
        return self._windows

    def batch(self, indices: Indices) -> Pair:
        places = indices[:, None] * self._length + np.arange(self._length + 1)  # (m, length + 1)
        window = self._tokens.take(places).astype(np.int64)
        if window.size and window.max() >= self._vocabulary:
            raise HpcDlError(
                f"token file {self._path}",
                f"token {window.max()} in a vocabulary of {self._vocabulary}",
                "set vocabulary to the tokenizer's, or dtype to the type the file was written with",
            )
        tokens = torch.from_numpy(window)
        return tokens[:, :-1], tokens[:, 1:]
