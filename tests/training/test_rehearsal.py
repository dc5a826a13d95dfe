# SPDX-License-Identifier: Apache-2.0
"""Data, model and loss that do not fit together are told before the first step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpc_dl.data.base import Arrays, Data
from hpc_dl.data.rehearsal import rehearse
from hpc_dl.errors import HpcDlError
from hpc_dl.models.mnist_cnn import MnistCnn


def data(size: int = 28, dtype: torch.dtype = torch.float32, classes: torch.dtype = torch.int64) -> Data:
    part = Arrays(torch.zeros(3, 1, size, size, dtype=dtype), torch.zeros(3, dtype=classes))
    return Data(part, part)


def run(some: Data, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor] = F.nll_loss) -> None:
    rehearse(some, model, loss, lambda part: part, contextlib.nullcontext)


def test_what_fits_passes_and_nothing_is_changed() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), MnistCnn())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(data(), model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("some", "loss", "words"),
    [
        (
            data(size=8),
            F.nll_loss,
            r"through the model: inputs float32 \(1, 1, 8, 8\).*Kernel size.*mnist_cnn\.py, line",
        ),
        (data(dtype=torch.uint8), F.nll_loss, r"through the model: inputs uint8 \(1, 1, 28, 28\)"),
        (data(classes=torch.float32), F.nll_loss, r"through the loss: .*target float32 \(1,\)"),
        (data(), lambda output, target: output, r"the loss gives float32 \(1, 10\), not one number"),
        (data(), lambda output, target: 0.0, "the loss gives float, not one number"),
    ],
)
def test_what_does_not_fit_is_named_with_shapes_and_types(
    some: Data, loss: Callable[[Tensor, Tensor], Tensor], words: str
) -> None:
    with pytest.raises(HpcDlError, match=words) as caught:
        run(some, MnistCnn(), loss)
    assert "task.model" in caught.value.remedy


def test_evaluation_data_are_tried_as_well() -> None:
    with pytest.raises(HpcDlError, match="one evaluation sample through the model"):
        run(Data(data().train, data(size=8).evaluation), MnistCnn())


def test_other_errors_of_a_model_go_through() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AttributeError("a bug")

    with pytest.raises(AttributeError, match="a bug"):
        run(data(), Broken())
