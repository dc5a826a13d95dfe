# SPDX-License-Identifier: Apache-2.0
"""The checksum that tells whether ranks drifted apart."""

from __future__ import annotations

import pytest
import torch

from hpc_dl.comm import agreement


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.bool, torch.int64])
@pytest.mark.parametrize("chunk", [3, 4, 2**18])
def test_a_checksum_sees_every_word_and_nothing_but_the_values(
    dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "CHUNK_WORDS", chunk)
    tensors = [(torch.arange(length) % 2).to(dtype) for length in (11, 0, 4, 1)]
    strided = [torch.stack([tensor, tensor], 1)[:, 1] for tensor in tensors]
    usual = int(agreement.checksum(tensors))
    assert int(agreement.checksum(strided)) == usual
    for tensor in tensors:
        for place in range(len(tensor)):
            value = tensor[place].clone()
            tensor[place] = 1 - value.to(torch.uint8)
            assert int(agreement.checksum(tensors)) != usual
            tensor[place] = value
    assert int(agreement.checksum(tensors)) == usual


def test_a_checksum_sees_one_bit_and_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "CHUNK_WORDS", 3)
    tensor = torch.arange(11.0)
    flipped, swapped = tensor.clone(), tensor.clone()
    flipped[7] = torch.nextafter(flipped[7], torch.tensor(100.0))
    swapped[[2, 3]] = swapped[[3, 2]]
    sums = {int(agreement.checksum([each])) for each in (tensor, flipped, swapped)}
    assert len(sums) == 3
