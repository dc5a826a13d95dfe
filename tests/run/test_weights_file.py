# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl checkpoint`: from a run's checkpoint to weights that plain torch loads."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from hpc_dl import cli
from hpc_dl.recipes import mnist_cnn
from hpc_dl.run.checkpoint import Checkpoints, Position
from hpc_dl.settings import CheckpointSettings, DeviceSettings, LogSettings
from hpc_dl.train import train

ROOT = Path(__file__).parents[2]
POSITION = Position(step=7, epoch=1, epoch_samples=32, samples=96)


def checkpoint(command: str, place: Path, *words: str) -> int:
    return cli.main(["checkpoint", command, str(place), *words])


def written(folder: Path, **states: Any) -> Path:
    """A run folder with one checkpoint."""
    Checkpoints(folder, keep=3).write(POSITION, states)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of a recipe, to its end."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    settings = mnist_cnn.MNIST_CNN
    train(
        replace(
            settings,
            training=replace(settings.training, steps=2),
            device=DeviceSettings(name="cpu", threads=1),
            log=LogSettings(folder=str(folder), progress="none"),
            checkpoint=CheckpointSettings(every_epochs=1),
        ),
        {},
    )
    return folder


def test_the_exported_model_loads_in_plain_torch_as_the_page_says(run: Path, tmp_path: Path) -> None:
    assert checkpoint("export", run, "--output", str(tmp_path / "model.safetensors")) == 0
    snippet = re.findall(r"```python\n(.*?)```", (ROOT / "docs/results.md").read_text(), re.DOTALL)[0]
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{snippet}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "tensor([" in done.stdout
    assert "'model': 'hpc_dl.models.mnist_cnn:MnistCnn'" in done.stdout


def test_weights_and_where_they_come_from_are_in_the_file(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.safetensors"
    (path,) = (run / "checkpoints").iterdir()
    assert checkpoint("export", path, "--output", str(output)) == 0
    trained = torch.load(path, weights_only=True)["states"]["model"]
    weights = load_file(output)
    assert set(weights) == set(trained)
    assert all(torch.equal(weights[name], trained[name]) for name in trained)
    with safe_open(output, framework="pt") as file:
        facts = file.metadata()
    assert facts["run"] == "digits"
    assert facts["step"] == "2"
    assert facts["model_options"] == '{"dropout": 0.25}'
    assert facts["hpc_dl"]


def test_show_says_what_a_checkpoint_holds(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(run.rglob("*"))
    assert checkpoint("show", run / "checkpoints") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^step +2$", printed, re.MULTILINE)
    assert re.search(r"^run +digits$", printed, re.MULTILINE)
    assert re.search(r"^model +\d+ +[\d,]+ +\d\.\d  float32", printed, re.MULTILINE)
    assert re.search(r"^optimizer ", printed, re.MULTILINE)
    assert sorted(run.rglob("*")) == before


MODEL = {"weight": torch.arange(6.0).view(2, 3)}


def test_checkpoints_of_version_1_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They had the states of the Trainer beside the position."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    states = {"model": MODEL, "optimizer": {"state": {}}, "scaler": {}, "order": {"global batch": 8}}
    torch.save({"version": 1, "position": asdict(POSITION), **states}, "run/checkpoints/step-00000007.pt")
    assert checkpoint("export", Path("run")) == 0
    assert torch.equal(load_file("model.safetensors")["weight"], MODEL["weight"])


def test_another_state_is_exported_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checkpoint("export", written(tmp_path, **{"critic": MODEL, "actor": {}}), "--state", "critic") == 0
    assert list(load_file("critic.safetensors")) == ["weight"]


def test_tied_weights_are_written_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tied = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    tied[1].weight = tied[0].weight
    output = tmp_path / "model.safetensors"
    assert checkpoint("export", written(tmp_path, model=tied.state_dict()), "--output", str(output)) == 0
    assert "shared memory with others: 1.weight" in capsys.readouterr().out
    tied.load_state_dict(load_file(output))


def test_parts_of_one_tensor_and_transposed_ones_come_back(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    model = {"q": whole[:1], "k": whole[1:], "t": whole.t(), "half": whole.bfloat16(), "empty": whole[:0]}
    output = tmp_path / "model.safetensors"
    assert checkpoint("export", written(tmp_path, model=model), "--output", str(output)) == 0
    back = load_file(output)
    assert all(torch.equal(back[name], model[name]) and back[name].dtype == model[name].dtype for name in model)


REFUSED = {
    "extra": ({"weight": torch.ones(1), "_extra_state": {"a": 1}}, r"_extra_state \(a dict, no tensor\)"),
    "sparse": ({"weight": torch.eye(3).to_sparse()}, r"weight \(a sparse tensor\)"),
    "complex": ({"weight": torch.ones(1, dtype=torch.complex128)}, r"weight \(complex128\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_safetensors_cannot_hold_is_refused_by_name(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, found = REFUSED[case]
    output = tmp_path / "model.safetensors"
    assert checkpoint("export", written(tmp_path, model=model), "--output", str(output)) == 2
    assert re.search(found, capsys.readouterr().err)
    assert not output.exists()


def test_a_state_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoint("export", written(tmp_path, model=MODEL), "--state", "mode") == 2
    assert "did you mean model?" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "model.safetensors"
    assert checkpoint("export", written(tmp_path, model=MODEL), "--output", str(output)) == 2
    assert f"{output} cannot be written" in capsys.readouterr().err


def test_a_damaged_one_is_named_and_left_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, model=MODEL)
    damaged = Checkpoints(tmp_path, keep=3).write(replace(POSITION, step=9), {"model": MODEL})
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert checkpoint("show", tmp_path) == 0
    printed = capsys.readouterr()
    assert "step-00000007.pt" in printed.out
    assert "step-00000009.pt" in printed.err
    assert damaged.exists()
    (tmp_path / "checkpoints/step-00000007.pt").unlink()
    assert checkpoint("show", tmp_path) == 2
    assert "all its checkpoints are damaged" in capsys.readouterr().err


@pytest.mark.parametrize(("place", "found"), [(".", "no checkpoint in it"), ("nowhere", "no such place")])
def test_a_place_without_checkpoints_is_refused(
    place: str, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkpoint("show", tmp_path / place) == 2
    assert found in capsys.readouterr().err
