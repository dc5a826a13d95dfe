# SPDX-License-Identifier: Apache-2.0
"""What its owner has put into evaluation mode stays there while the rest trains."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hpc_dl.data.base import Arrays, Data
from hpc_dl.settings import DataSettings, DeviceSettings, LogSettings, Settings, TaskSettings, TrainingSettings
from hpc_dl.train import train
from hpc_dl.training.modes import put_into_training


def backbone() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))


def frozen() -> nn.Sequential:
    part = backbone().requires_grad_(False)
    return part.eval()


class Net(nn.Module):
    """A frozen part with a head, as transfer learning has it."""

    seen: list[bool] = []

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = frozen(), nn.Linear(8, 1)
        Net.seen.clear()

    def forward(self, x: Tensor) -> Tensor:
        Net.seen.append(self.training)
        return self.head(self.backbone(x))


def far_away() -> Data:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) + 3
    return Data(Arrays(x, x[:, :1]), Arrays(x, x[:, :1]))


def check(model: nn.Module, _session: object, folder: Path) -> None:
    torch.save(model.state_dict(), folder / "model.pt")


def test_a_frozen_part_in_evaluation_mode_is_left_alone_over_epochs_and_evaluations(tmp_path: Path) -> None:
    here = "tests.training.test_modes"
    settings = Settings(
        task=TaskSettings(
            f"{here}:Net",
            loss="torch.nn.functional:mse_loss",
            metrics=["torch.nn.functional:mse_loss"],
            on_finish=f"{here}:check",
        ),
        data=DataSettings(source=f"{here}:far_away"),
        training=TrainingSettings(epochs=2, local_batch=16),
        device=DeviceSettings(name="cpu", threads=1),
        log=LogSettings(folder=str(tmp_path), progress="none"),
    )
    train(settings, {})
    state = torch.load(tmp_path / "model.pt")
    assert state["backbone.1.running_mean"].abs().max() == 0
    assert state["backbone.1.num_batches_tracked"] == 0
    seen = importlib.import_module(here).Net.seen
    assert seen == [True, True, False, *(4 * [True] + 4 * [False]) * 2]  # the rehearsal first


@pytest.mark.parametrize(
    ("part", "trains"),
    [
        (frozen(), False),
        (nn.BatchNorm1d(8).eval(), False),  # a single layer: its statistics were to be kept
        (nn.Dropout().eval(), False),
        (backbone().eval(), True),  # as libraries hand out their trained models, to be trained further
        (backbone().requires_grad_(False), True),  # frozen, but not said to be in evaluation mode
    ],
    ids=["frozen", "single layer", "without parameters", "to be trained", "frozen in training mode"],
)
def test_which_parts_stay(part: nn.Module, trains: bool) -> None:
    model = nn.Sequential(part, nn.Linear(8, 1))
    put_into_training(model)
    assert model.training
    assert {module.training for module in part.modules()} == {trains}


def test_a_model_in_evaluation_mode_as_a_whole_is_trained() -> None:
    model = nn.Sequential(backbone(), nn.Linear(8, 1)).eval()
    put_into_training(model)
    assert all(module.training for module in model.modules())


def test_a_models_own_train_is_called() -> None:
    class Stubborn(nn.Sequential):
        def train(self, mode: bool = True) -> Stubborn:
            super().train(mode)
            self[0].training = False
            return self

    model = Stubborn(backbone(), nn.Linear(8, 1))
    put_into_training(model)
    assert not model[0].training
    assert model[1].training
