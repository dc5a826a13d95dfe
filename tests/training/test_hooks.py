# SPDX-License-Identifier: Apache-2.0
"""What one adds to the Trainer by settings: hooks, schedulers of torch's, the best weights, an early end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints, read
from hpc_dl.runlog.records import read_run
from hpc_dl.settings import (
    BestSettings,
    CheckpointSettings,
    DataSettings,
    DeviceSettings,
    LogSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)
from hpc_dl.train import train
from tests.training.hooked import NOTES, data, model

HERE = "tests.training.hooked"
HOOK, EMA = f"{HERE}:Noted", "hpc_dl.training.hooks:Ema"


def settings(folder: Path, epochs: int = 3, **more: Any) -> Settings:
    task = {"metrics": ["torch.nn.functional:mse_loss"], **more.pop("task", {})}
    return Settings(
        task=TaskSettings(f"{HERE}:model", loss="torch.nn.functional:mse_loss", **task),
        data=DataSettings(source=f"{HERE}:data"),
        training=TrainingSettings(epochs=epochs, global_batch=8),
        optimizer=OptimizerSettings(learning_rate=0.05, momentum=0.5),
        device=DeviceSettings(name="cpu", threads=1),
        log=LogSettings(folder=str(folder), window_steps=1, progress="none"),
        **more,
    )


def resumed(before: Settings) -> Settings:
    return replace(before, checkpoint=replace(before.checkpoint, resume="must"))


def newest(folder: Path) -> dict[str, Any]:
    content = Checkpoints(folder, 1).newest()
    assert content is not None
    return content["states"]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return all(map(same, one, other))
    return one == other


def test_a_hook_hears_of_everything_and_may_freeze_layers(tmp_path: Path) -> None:
    train(settings(tmp_path, 2, task={"hooks": {HOOK: {}}}, checkpoint=CheckpointSettings(every_epochs=1)), {})
    kinds = [note[:2] for note in NOTES]
    first = [("epoch", 0), *(("step", step) for step in range(4)), ("evaluation", 4), ("checkpoint", 4)]
    assert kinds[: len(first)] == first
    assert kinds[len(first)] == ("epoch", 1)
    weights = [note[2] for note in NOTES if note[0] == "step"]
    assert all(torch.equal(weight, weights[0]) for weight in weights[:4]), "frozen in the first epoch"
    assert not torch.equal(weights[4], weights[0])


def test_a_hook_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(HpcDlError, match=rf"on_step of the hook {HOOK}.*: ZeroDivisionError: of the hook's own"):
        train(settings(tmp_path, task={"hooks": {HOOK: {"fail_at": 2}}}), {})
    with pytest.raises(HpcDlError, match=r"(?s)task.hooks.*it made object") as caught:
        train(settings(tmp_path / "2", task={"hooks": {f"{HERE}:nothing": {}}}), {})
    assert "on_step" in caught.value.remedy
    with pytest.raises(HpcDlError, match=r"(?s)task.hooks.*decai"):
        train(settings(tmp_path / "3", task={"hooks": {EMA: {"decai": 0.9}}}), {})


def test_averaged_weights_are_evaluated_and_resumed(tmp_path: Path) -> None:
    whole = settings(tmp_path / "whole", task={"hooks": {EMA: {"decay": 0.9}, HOOK: {}}})
    outcome = train(whole, {})
    states = newest(tmp_path / "whole")
    average = AveragedModel(model(), multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.load_state_dict(states[EMA])
    held_back = data().evaluation.batch(range(8))  # type: ignore[arg-type]
    expected = nn.functional.mse_loss(average.module.eval()(held_back[0]), held_back[1])
    assert outcome.metrics["mse_loss"] == pytest.approx(float(expected.detach()), rel=1e-6)
    cut = settings(tmp_path / "cut", task={"hooks": {EMA: {"decay": 0.9}, HOOK: {}}})
    train(replace(cut, training=replace(cut.training, steps=6)), {})
    train(resumed(cut), {})
    assert same(newest(tmp_path / "cut")[EMA], states[EMA])
    again = model()
    assert not same(dict(again.state_dict()), dict(average.module.state_dict()))


SCHEDULES = {
    "by step": ScheduleSettings(name="torch.optim.lr_scheduler:OneCycleLR", options={"max_lr": 0.1}),
    "by epoch": ScheduleSettings(name="torch.optim.lr_scheduler:StepLR", options={"step_size": 1}, per="epoch"),
    "by metric": ScheduleSettings(
        name="torch.optim.lr_scheduler:ReduceLROnPlateau",
        options={"patience": 0, "threshold": 0.99},
        metric="mse_loss",
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scheduler_of_torch_sets_the_rates_and_is_resumed(name: str, tmp_path: Path) -> None:
    whole = settings(tmp_path / "whole", schedule=SCHEDULES[name])
    train(whole, {})
    rates = [window.learning_rate for window in read_run(tmp_path / "whole").windows]
    assert rates == pytest.approx(_by_hand(name))
    for end in (4, 6):
        cut = settings(tmp_path / f"cut{end}", schedule=SCHEDULES[name])
        total = {"options": {**SCHEDULES[name].options, "total_steps": 12}} if name == "by step" else {}
        cut = replace(cut, schedule=replace(cut.schedule, **total))
        train(replace(cut, training=replace(cut.training, steps=end)), {})
        train(resumed(cut), {})
        expected, found = newest(tmp_path / "whole"), newest(tmp_path / f"cut{end}")
        assert same(found["model"], expected["model"]), end
        assert found["optimizer"]["param_groups"] == expected["optimizer"]["param_groups"]


def _by_hand(name: str) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.05, momentum=0.5)
    if name == "by step":
        schedule: Any = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12)
    elif name == "by epoch":
        return [0.05] * 4 + [0.005] * 4 + [0.0005] * 4
    else:
        return [0.05] * 8 + [0.005] * 4  # the second evaluation is not a hundred times better than the first
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < 12:
            schedule.step()
    return rates


def test_a_scheduler_beside_a_decay_is_refused() -> None:
    with pytest.raises(HpcDlError, match="warmup_steps or decay is given, too"):
        ScheduleSettings(name="torch.optim.lr_scheduler:StepLR", decay="cosine")


def test_a_metric_that_is_none_of_the_run_is_named(tmp_path: Path) -> None:
    schedule = replace(SCHEDULES["by metric"], metric="mse_los")
    with pytest.raises(HpcDlError, match=r"(?s)schedule.metric.*mse_loss"):
        train(settings(tmp_path / "1", schedule=schedule), {})
    with pytest.raises(HpcDlError, match=r"(?s)best.metric.*no such metric"):
        train(settings(tmp_path / "2", best=BestSettings("acuracy")), {})
    with pytest.raises(HpcDlError, match=r"name one of the run's in schedule\.metric"):
        train(settings(tmp_path / "3", schedule=replace(schedule, metric="")), {})


def test_the_best_weights_are_kept_and_training_ends_when_they_stay_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {"hooks": {HOOK: {}}, "metrics": [f"{HERE}:worse_each_time"]}
    best = BestSettings("worse_each_time", patience=3)
    asked = settings(tmp_path, 20, task=task, best=best)
    outcome = train(asked, {})
    assert "ended after step 20: no better worse_each_time in 3 evaluations" in capsys.readouterr().out
    assert (outcome.reason, outcome.position.step, outcome.position.epoch) == ("finished", 20, 5)
    kept = read(tmp_path / "checkpoints" / "best.pt")
    assert kept["position"]["step"] == 8
    weights = [note[2] for note in list(NOTES) if note[0] == "step"]
    assert torch.equal(kept["states"]["model"]["0.weight"], weights[7])
    assert train(resumed(asked), {}).position.step == 20, "it stays ended"
