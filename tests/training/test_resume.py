# SPDX-License-Identifier: Apache-2.0
"""A resumed run goes on bit for bit, random augmentation included, or says in a sentence why it cannot."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hpc_dl.data.base import Arrays, Data
from hpc_dl.data.workers import MapStyle
from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints, Position
from hpc_dl.settings import (
    CheckpointSettings,
    DataSettings,
    DeviceSettings,
    LogSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)
from hpc_dl.train import train

HERE = "tests.training.test_resume"


class Noisy(Dataset):
    """Draws from everything a data set may draw from."""

    def __init__(self, samples: int) -> None:
        self.x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = float(torch.rand(())) + np.random.rand() + random.random()
        return self.x[index] + noise, self.x[index].sum(0, keepdim=True)


def augmented() -> Data:
    return Data(MapStyle(Noisy(32)), MapStyle(Noisy(8)))


def plain(samples: int = 40) -> Data:
    x = torch.arange(4.0 * samples).view(samples, 4) / samples
    return Data(Arrays(x, x[:, :1]), Arrays(x[:4], x[:4, :1]))


class Net(nn.Sequential):
    """A model that draws, too: dropout, and NumPy in training."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * (1 + 0.1 * np.random.rand()) if self.training else x)


class Extra(nn.Linear):
    """Its state holds what a checkpoint cannot give back."""

    def __init__(self) -> None:
        super().__init__(4, 1)

    def get_extra_state(self) -> Any:
        return {"threshold": np.float64(0.5)}

    def set_extra_state(self, state: Any) -> None:
        return None


def settings(folder: Path, source: str = "plain", **training: Any) -> Settings:
    return Settings(
        task=TaskSettings(f"{HERE}:Net", loss="torch.nn.functional:mse_loss", metrics=["torch.nn.functional:mse_loss"]),
        data=DataSettings(source=f"{HERE}:{source}"),
        training=TrainingSettings(**{"global_batch": 8, "epochs": 2, **training}),
        device=DeviceSettings(name="cpu", threads=1),
        log=LogSettings(folder=str(folder), progress="none"),
    )


def resumed(before: Settings) -> Settings:
    return replace(before, checkpoint=CheckpointSettings(resume="must"))


def state(folder: Path) -> dict[str, Any]:
    content = Checkpoints(folder, 1).newest()
    assert content is not None
    return content["states"]["model"]


@pytest.mark.parametrize("workers", [(0, 0), (1, 1), (0, 1)], ids=str)
def test_random_augmentation_goes_on_bit_for_bit(workers: tuple[int, int], tmp_path: Path) -> None:
    """Also where the number of loader processes changes on the way."""
    unbroken = settings(tmp_path / "unbroken", "augmented")
    np.random.seed(1)
    random.seed(1)  # what was drawn before a run does not matter
    outcome = train(unbroken, {})
    first = settings(tmp_path / "cut", "augmented", steps=3)
    train(replace(first, data=replace(first.data, workers=workers[0])), {})
    second = resumed(settings(tmp_path / "cut", "augmented"))
    again = train(replace(second, data=replace(second.data, workers=workers[1])), {})
    assert again.metrics == outcome.metrics
    expected = state(tmp_path / "unbroken")
    for name, value in state(tmp_path / "cut").items():
        assert torch.equal(value, expected[name]), name


CHANGES = {
    "training samples": {"data": {"options": {"samples": 48}}},
    "global batch": {"training": {"global_batch": 4}},
    "training.seed": {"training": {"seed": 5}},
    "data.shuffle": {"data": {"shuffle": False}},
    "training.drop_last": {"training": {"drop_last": True}},
}


def changed(before: Settings, changes: dict[str, dict[str, Any]]) -> Settings:
    for group, values in changes.items():
        before = replace(before, **{group: replace(getattr(before, group), **values)})
    return before


@pytest.mark.parametrize("name", ["training samples", "training.seed", "data.shuffle"])
def test_what_changes_the_rest_of_an_epoch_is_refused_by_name(name: str, tmp_path: Path) -> None:
    train(settings(tmp_path, steps=2), {})
    with pytest.raises(HpcDlError, match=f"16 samples into it.*{name} = .*: it was") as caught:
        train(changed(resumed(settings(tmp_path)), CHANGES[name]), {})
    assert f"resume with {name} = " in caught.value.remedy


@pytest.mark.parametrize("name", CHANGES)
def test_between_epochs_it_may_change_and_is_said(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(settings(tmp_path, epochs=1), {})
    outcome = train(changed(resumed(settings(tmp_path)), CHANGES[name]), {})
    assert outcome.position.epoch == 2
    assert f"hpc-dl: resumed with {name} = " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["global batch", "training.drop_last"])
def test_what_leaves_the_same_samples_may_change_within_an_epoch(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(settings(tmp_path, steps=2), {})
    outcome = train(changed(resumed(settings(tmp_path)), CHANGES[name]), {})
    assert outcome.position.samples == 80, "two epochs of 40, every sample once in each"
    assert f"hpc-dl: resumed with {name} = " in capsys.readouterr().out


def test_a_batch_of_which_no_step_begins_there_is_refused(tmp_path: Path) -> None:
    train(settings(tmp_path, steps=2), {})
    with pytest.raises(HpcDlError, match=r"a global batch of 12 .* 16 samples into an epoch, where no step begins"):
        train(resumed(settings(tmp_path, global_batch=12)), {})


@pytest.mark.parametrize("samples", [8, 16, 20])
def test_a_position_beyond_the_epoch_ends_the_run(samples: int, tmp_path: Path) -> None:
    """A checkpoint of before the order was stored, and data that have become fewer."""
    train(settings(tmp_path, steps=2), {})
    (path,) = Checkpoints(tmp_path, 1).paths()
    content = torch.load(path)
    del content["order"]
    content["position"]["epoch_samples"] = 24
    torch.save(content, path)
    fewer = changed(resumed(settings(tmp_path)), {"data": {"options": {"samples": samples}}})
    with pytest.raises(HpcDlError, match="24 samples into an epoch, where no step begins"):
        train(fewer, {})


def test_what_cannot_be_read_back_is_named_when_it_is_first_written(tmp_path: Path) -> None:
    wrong = settings(tmp_path)
    wrong = replace(wrong, task=replace(wrong.task, model=f"{HERE}:Extra"))
    with pytest.raises(HpcDlError, match=r"model\['_extra_state'\]\['threshold'\], of type float64,"):
        train(wrong, {})
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_whole_checkpoint_that_cannot_be_read_now_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    path = checkpoints.write(Position(step=1), {"model": {"w": torch.ones(1)}})

    def stale(_: Path) -> bytes:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", stale)
        with pytest.raises(HpcDlError, match="Stale file handle"):
            checkpoints.newest()
    assert path.exists()
    torch.save({**torch.load(path), "version": 99}, path)
    with pytest.raises(HpcDlError, match="has version 99"):
        checkpoints.newest()
    assert path.exists()


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew_by_itself(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.write(Position(step=1), {"model": {"w": torch.ones(1)}}).write_bytes(b"x")
    for _ in range(2):  # the second time it has another name
        with pytest.raises(HpcDlError, match=r"are damaged\n.*remove step-00000001.damaged"):
            checkpoints.newest()
