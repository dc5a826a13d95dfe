# SPDX-License-Identifier: Apache-2.0
"""The checksum that tells whether ranks drifted apart."""

from __future__ import annotations

import pytest
import torch

from hpc_dl.comm import agreement


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.bool, torch.int64])
def test_a_checksum_does_not_depend_on_how_the_tensor_is_cut(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = (torch.arange(11) % 7).to(dtype)
    whole = agreement.checksum(tensor)
    monkeypatch.setattr(agreement, "CHUNK_WORDS", 3)
    assert agreement.checksum(tensor) == whole


def test_a_checksum_sees_one_bit_and_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "CHUNK_WORDS", 3)
    tensor = torch.arange(11.0)
    flipped, swapped = tensor.clone(), tensor.clone()
    flipped[7] = torch.nextafter(flipped[7], torch.tensor(100.0))
    swapped[[2, 3]] = swapped[[3, 2]]
    sums = {int(agreement.checksum(each)) for each in (tensor, flipped, swapped)}
    assert len(sums) == 3
