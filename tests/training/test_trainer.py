# SPDX-License-Identifier: Apache-2.0
"""Runs of the trainer in this process: what is in the log, what a resumed run arrives at, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints
from hpc_dl.runlog.records import read_run
from hpc_dl.settings import (
    CheckpointSettings,
    DataSettings,
    DeviceSettings,
    LogSettings,
    OptimizerSettings,
    Settings,
    TrainingSettings,
)
from hpc_dl.train import train

SMALL = Settings(
    name="small",
    data=DataSettings(source="hpc_dl.data.digits:load"),
    training=TrainingSettings(epochs=2, local_batch=200, evaluate_every_epochs=1),
    optimizer=OptimizerSettings(name="adam", learning_rate=0.002),
    device=DeviceSettings(name="cpu", threads=1),
    log=LogSettings(window_steps=3, warmup_steps=2, progress="none"),
)


def _in(folder: Path, settings: Settings = SMALL) -> Settings:
    return replace(settings, log=replace(settings.log, folder=str(folder)))


def test_the_log_accounts_for_every_sample_and_second(tmp_path: Path) -> None:
    outcome = train(_in(tmp_path), {})
    run = read_run(tmp_path)
    assert not run.broken
    samples = sum(window.samples for window in run.windows)
    assert samples == outcome.position.samples == 2 * 1438
    assert sum(window.steps for window in run.windows) == 16
    assert [window.first_step for window in run.windows] == [0, 1, 2, 5, 8, 11, 14]
    assert [window.warmup for window in run.windows] == [True, True, False, False, False, False, False]
    for window in run.windows:
        assert sum(spread.mean for spread in window.phases.values()) == pytest.approx(window.seconds.mean)
        assert sum(window.step_seconds) == pytest.approx(window.seconds.mean)
    assert [evaluation.samples for evaluation in run.evaluations] == [359, 359]
    assert run.windows[-1].loss < run.windows[0].loss
    assert run.end is not None
    assert (run.end.reason, run.end.steps) == ("finished", 16)


def test_the_header_says_who_ran_what(tmp_path: Path) -> None:
    train(_in(tmp_path), {"SLURM_JOB_ID": "4711"})
    header = read_run(tmp_path).header
    assert (header.parameters, header.gradient_bytes) == (21_840, 4 * 21_840)
    assert (header.engine, header.engine_why, header.launcher) == ("single", "one process", "single")
    assert (header.local_batch, header.global_batch, header.batch_rule) == (200, 200, "local")
    assert header.job_id == "4711"
    assert header.versions["torch"] == torch.__version__
    assert header.settings["optimizer"]["name"] == "adam"


@pytest.mark.parametrize("stop_at_step", [8, 11])
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path, stop_at_step: int) -> None:
    """To the bit, dropout included, whether it stopped at the end of an epoch or within one."""
    last = replace(SMALL, checkpoint=CheckpointSettings(at_end=True))
    train(_in(tmp_path / "unbroken", last), {})
    cut = replace(last, training=replace(last.training, steps=stop_at_step))
    train(_in(tmp_path / "cut", cut), {})
    train(_in(tmp_path / "cut", replace(last, checkpoint=CheckpointSettings(at_end=True, resume="must"))), {})
    unbroken, resumed = (Checkpoints(tmp_path / name, keep=2).newest() for name in ("unbroken", "cut"))
    assert unbroken is not None
    assert resumed is not None
    assert resumed["position"] == unbroken["position"]
    for name, value in unbroken["states"]["model"].items():
        assert torch.equal(resumed["states"]["model"][name], value), name


def test_resume_must_insists_and_auto_does_not(tmp_path: Path) -> None:
    with pytest.raises(HpcDlError, match="no whole checkpoint"):
        train(_in(tmp_path / "must", replace(SMALL, checkpoint=CheckpointSettings(resume="must"))), {})
    outcome = train(_in(tmp_path / "auto", replace(SMALL, checkpoint=CheckpointSettings(resume="auto"))), {})
    assert outcome.reason == "finished"


def test_another_runs_folder_is_not_written_to(tmp_path: Path) -> None:
    train(_in(tmp_path), {})
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(HpcDlError, match="log of another run"):
        train(_in(tmp_path), {})
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_evaluation_only_at_the_end_where_asked(tmp_path: Path) -> None:
    settings = replace(SMALL, training=replace(SMALL.training, evaluate_every_epochs=0))
    train(_in(tmp_path, settings), {})
    assert [evaluation.step for evaluation in read_run(tmp_path).evaluations] == [16]


WRONG = {
    "no such model": ({"task": {"model": "hpc_dl.models.mnist_cnn:MnistCn"}}, "MnistCnn"),
    "no such module": ({"task": {"model": "hpc_dl.models.nothing:Model"}}, "importing hpc_dl.models.nothing failed"),
    "not a module": ({"task": {"model": "math:sqrt", "model_options": {}}}, "task.model"),
    "a wrong option": ({"task": {"model_options": {"depth": 3}}}, "depth"),
    "no such metric": ({"task": {"metrics": ["acuracy"]}}, "accuracy"),
    "data that is none": ({"data": {"source": "builtins:dict"}}, "Data(train, evaluation)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_built_is_named(tmp_path: Path, case: str) -> None:
    changes, hint = WRONG[case]
    settings = _in(tmp_path)
    for group, values in changes.items():
        settings = replace(settings, **{group: replace(getattr(settings, group), **values)})
    with pytest.raises(HpcDlError) as caught:
        train(settings, {})
    assert hint in str(caught.value)


@pytest.mark.parametrize("precision", ["bf16", "fp64"])
def test_other_precisions_learn(tmp_path: Path, precision: str) -> None:
    device = DeviceSettings(name="cpu", threads=1, precision=precision, channels_last=True)  # type: ignore[arg-type]
    settings = replace(SMALL, device=device, training=replace(SMALL.training, epochs=3))
    train(_in(tmp_path, settings), {})
    windows = read_run(tmp_path).windows
    assert windows[-1].loss < 0.9 * windows[0].loss
