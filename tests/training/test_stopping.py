# SPDX-License-Identifier: Apache-2.0
"""A run stops when it is asked to or its job is about to end, keeps what it did, and goes on from there."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hpc_dl.run.checkpoint import Checkpoints, Position
from hpc_dl.runlog.records import read_parts
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
from tests.training import stopping

RUN = Settings(
    name="stopping",
    task=TaskSettings(loss="tests.training.stopping:loss"),
    data=DataSettings(source="hpc_dl.data.digits:load"),
    training=TrainingSettings(epochs=3, local_batch=200),
    device=DeviceSettings(name="cpu", threads=1),
    log=LogSettings(window_steps=2, warmup_steps=1, progress="none"),
)


def _in(folder: Path, **checkpoint: object) -> Settings:
    settings = CheckpointSettings(**checkpoint)  # type: ignore[arg-type]
    return replace(RUN, log=replace(RUN.log, folder=str(folder)), checkpoint=settings)


def _same_weights(first: Path, second: Path) -> bool:
    contents = [Checkpoints(folder, keep=2).newest() for folder in (first, second)]
    assert contents[0] is not None
    assert contents[1] is not None
    assert contents[0]["position"] == contents[1]["position"]
    one, other = (content["states"]["model"] for content in contents if content)
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_signal_stops_a_run_that_then_goes_on_as_if_it_had_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)]
    train(_in(tmp_path / "unbroken"), {})
    monkeypatch.setattr(stopping, "calls", 0)
    monkeypatch.setenv("STOPPING", f"0:6:{name}:0")
    outcome = train(_in(tmp_path / "stopped"), {})
    assert (outcome.reason, outcome.why) == ("stopped", "a signal asked for it")
    assert 6 <= outcome.position.step < 12
    assert "with a checkpoint: a signal asked for it; --checkpoint.resume auto goes on" in capfd.readouterr().out
    outcome = train(_in(tmp_path / "stopped", resume="must"), {})
    assert outcome.reason == "finished"
    assert _same_weights(tmp_path / "unbroken", tmp_path / "stopped")
    parts, broken = read_parts(tmp_path / "stopped")
    assert not broken
    assert [part.end.reason for part in parts if part.end] == ["stopped", "finished"]
    assert sum(part.end.steps for part in parts if part.end) == outcome.position.step == 24
    assert sum(window.steps for part in parts for window in part.windows) == 24, "what was done before is in the log"
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)] == before


def test_a_run_stops_before_its_job_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOPPING", "-1:0::0.05")
    environ = {"HPC_DL_JOB_END": str(time.time() + 4)}
    outcome = train(replace(_in(tmp_path, stop_margin_seconds=2), training=TrainingSettings(epochs=1000)), environ)
    assert (outcome.reason, outcome.why) == ("stopped", "the job is about to end")
    assert 1.5 < float(environ["HPC_DL_JOB_END"]) - time.time() < 3.9
    assert outcome.position.step > 1
    assert len(Checkpoints(tmp_path, keep=2).paths()) == 1


def test_a_run_that_goes_on_behind_its_last_step_evaluates(tmp_path: Path) -> None:
    """As one does that stopped there before it was evaluated."""
    first = train(_in(tmp_path), {})
    again = train(_in(tmp_path, resume="must"), {})
    assert (again.reason, again.position, again.metrics) == ("finished", first.position, first.metrics)


def test_a_checkpoint_is_written_every_few_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOPPING", "-1:0::0.05")
    train(_in(tmp_path, every_minutes=0.3 / 60, at_end=False, keep=100), {})
    assert 2 <= len(Checkpoints(tmp_path, keep=100).paths()) <= 6


def test_a_checkpoint_of_an_epochs_ragged_last_step_can_be_resumed(tmp_path: Path) -> None:
    ragged = TrainingSettings(epochs=1, local_batch=199)  # 1,438 samples are seven steps of 199 and one of 45
    settings = replace(_in(tmp_path, every_steps=8, at_end=False), training=ragged)
    train(settings, {})
    goes_on = replace(_in(tmp_path, resume="must"), training=replace(ragged, epochs=2))
    assert train(goes_on, {}).position == Position(step=16, epoch=2, epoch_samples=0, samples=2 * 1438)


def test_sigterm_in_a_long_evaluation_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if not slept and len(output) > 3:  # the rehearsal has that few
            slept.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(7)
        return torch.nn.functional.cross_entropy(output, target)

    slept: list[bool] = []
    monkeypatch.setattr(stopping, "slow", slow, raising=False)
    task = TaskSettings(loss="tests.training.stopping:loss", metrics=["tests.training.stopping:slow"])
    outcome = train(replace(_in(tmp_path), task=task), {})
    assert outcome.reason == "stopped"
    assert slept
