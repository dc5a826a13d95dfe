# SPDX-License-Identifier: Apache-2.0
"""Data, model and loss that do not fit together are told before the first step."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpc_dl.data.base import Arrays, Data
from hpc_dl.errors import HpcDlError
from hpc_dl.models.mnist_cnn import MnistCnn
from hpc_dl.settings import DataSettings, DeviceSettings, LogSettings, Settings, TaskSettings, TrainingSettings
from hpc_dl.train import train
from hpc_dl.training.objective import PairObjective
from hpc_dl.training.rehearsal import Rehearsal, Rehearsed


def data(size: int = 28, dtype: torch.dtype = torch.float32, classes: torch.dtype = torch.int64) -> Data:
    part = Arrays(torch.zeros(3, 1, size, size, dtype=dtype), torch.zeros(3, dtype=classes))
    return Data(part, part)


def run(some: Data, model: nn.Module, loss: Callable[[Tensor, Tensor], Any] = F.nll_loss) -> Rehearsed:
    rehearsal = Rehearsal(some, model, PairObjective(loss), lambda batch: batch, contextlib.nullcontext)
    rehearsed = rehearsal.training()
    rehearsal.evaluation({})
    return rehearsed


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


def test_a_loss_may_differentiate_the_model() -> None:
    """As physics-informed networks do."""

    def residual(output: Tensor, target: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(output.sum(), weights, create_graph=True)
        return (slope - target.mean()).square().mean()

    model = nn.Linear(2, 1)
    weights = model.weight
    part = Arrays(torch.ones(3, 2), torch.ones(3, 1))
    assert run(Data(part, part), model, residual).least_samples == 1
    assert model.weight.grad is None


def test_training_sees_what_a_model_answers_in_training() -> None:
    """A second head that only training asks for."""

    class Helped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.helper = nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            return (self.head(x), self.helper(x)) if self.training else self.head(x)

    part = Arrays(torch.ones(3, 2), torch.ones(3, 1))
    run(Data(part, part), Helped(), lambda output, target: F.mse_loss(output[0] + output[1], target))


def test_random_numbers_and_statistics_are_as_before() -> None:
    class Noisy(nn.BatchNorm1d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + torch.rand(()) + np.random.rand() + random.random())

    model = Noisy(2)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), model.running_mean.clone()
    part = Arrays(torch.ones(3, 2), torch.ones(3, 2))
    run(Data(part, part), model, F.mse_loss)
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate(), model.running_mean
    assert torch.equal(after[0], before[0])
    assert (after[1] == before[1]).all()
    assert after[2] == before[2]
    assert torch.equal(after[3], before[3])
    assert model.num_batches_tracked == 0


@pytest.mark.parametrize(("layer", "least"), [(nn.BatchNorm1d(2), 2), (nn.LayerNorm(2), 1), (nn.Identity(), 1)])
def test_layers_that_normalise_over_the_batch_need_two_samples(layer: nn.Module, least: int) -> None:
    part = Arrays(torch.rand(3, 2), torch.rand(3, 1))
    assert run(Data(part, part), nn.Sequential(layer, nn.Linear(2, 1)), F.mse_loss).least_samples == least


def test_images_have_enough_values_for_a_normalisation_in_one_sample() -> None:
    assert run(data(), nn.Sequential(nn.BatchNorm2d(1), MnistCnn())).least_samples == 1


def _padded(output: Tensor, target: Tensor) -> Tensor:
    """A mean over the words of all sentences, shorter ones being filled up."""
    each = F.cross_entropy(output.flatten(0, 1), target.flatten(), reduction="none", ignore_index=0)
    return each.sum() / (target != 0).sum()


def _root(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), target.flatten()).sqrt()


def _contrasted(output: Tensor, target: Tensor) -> Tensor:
    """Each sample against all others of the batch."""
    return F.cross_entropy(output.flatten(1) @ output.flatten(1).T, torch.arange(len(output)))


def _noisy(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy((output + torch.randn_like(output)).flatten(0, 1), target.flatten())


def _sentences() -> Data:
    torch.manual_seed(0)
    words = torch.randint(1, 9, (10, 6))
    words[torch.arange(6) >= torch.tensor([6, 6, 3, 5, 6, 1, 4, 6, 6, 6])[:, None]] = 0
    part = Arrays(words, words)
    return Data(part, part)


@pytest.mark.parametrize(
    ("loss", "doubtful"),
    [
        (_padded, True),
        (_root, True),
        (_contrasted, True),
        (lambda output, target: F.cross_entropy(output.flatten(0, 1), target.flatten(), reduction="sum"), True),
        (lambda output, target: (_padded(output, target), (target != 0).sum()), False),
        (lambda output, target: F.cross_entropy(output.flatten(0, 1), target.flatten()), False),
        (lambda output, target: F.cross_entropy(output.transpose(1, 2), target) + 0.1 * output.square().mean(), False),
        (_noisy, False),  # nothing can be said about it
    ],
)
def test_a_loss_that_is_no_mean_over_samples_is_doubted(loss: Callable[..., Any], doubtful: bool) -> None:
    found = run(_sentences(), nn.Sequential(nn.Embedding(9, 9), nn.Linear(9, 9)), loss).doubt
    assert ("of 8 samples it is" in found and "from 1 and 7 of them" in found) is doubtful, found


def test_a_loss_known_to_ignore_targets_is_no_doubt() -> None:
    class Sentences(nn.Embedding):
        def forward(self, words: Tensor) -> Tensor:
            return super().forward(words).transpose(1, 2)

    loss = nn.CrossEntropyLoss(torch.rand(9), ignore_index=0)
    assert run(_sentences(), Sentences(9, 9), loss).doubt == ""


def sentences() -> Data:
    return _sentences()


class Speaker(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Embedding(9, 9), nn.Linear(9, 9))


padded = _padded


@pytest.mark.parametrize(("accumulation", "told"), [(2, True), (1, False)])
def test_a_run_in_parts_says_that_its_loss_is_no_mean(
    accumulation: int, told: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = "tests.training.test_rehearsal"
    settings = Settings(
        task=TaskSettings(f"{here}:Speaker", loss=f"{here}:padded", metrics=[]),
        data=DataSettings(source=f"{here}:sentences"),
        training=TrainingSettings(steps=1, local_batch=8, accumulation=accumulation),
        device=DeviceSettings(name="cpu", threads=1),
        log=LogSettings(folder=str(tmp_path), progress="none"),
    )
    train(settings, {})
    words = capfd.readouterr().err
    assert ("of 4 samples it is" in words and "return (mean, their number)" in words) is told, words
