# SPDX-License-Identifier: Apache-2.0
"""A loop of one's own over dictionaries, with a schedule and averaged weights: `python -m tests.run.loop FOLDER`."""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

import hpc_dl
from hpc_dl.settings import (
    CheckpointSettings,
    DeviceSettings,
    ExchangeSettings,
    LogSettings,
    Settings,
    TrainingSettings,
)

SAMPLES, GLOBAL_BATCH = 240, 24


class Pairs(Dataset[dict[str, Tensor]]):
    """A dictionary for each sample."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        x = torch.randn(6, generator=generator, dtype=torch.float64)
        return {"x": x, "y": x.square().sum(0, keepdim=True), "weight": x.abs().max()}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 1)).double()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        answer: Tensor = self.layers(batch["x"])
        return answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--kill-at", type=int, help="step at which the last rank gets SIGUSR1")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--no-dropout", action="store_true")
    asked = parser.parse_args()
    torch.manual_seed(1)
    settings = Settings(
        name="mine",
        training=TrainingSettings(seed=5),
        log=LogSettings(window_steps=4, warmup_steps=4, progress="none"),
        checkpoint=CheckpointSettings(every_epochs=1, keep=9),
    )
    with hpc_dl.start(ExchangeSettings(engine=asked.engine), DeviceSettings(name="cpu", threads=1)) as session:
        model = Net()
        if asked.no_dropout:
            model.layers[2] = nn.Identity()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        model, optimizer = session.distribute(model, optimizer)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        smooth = AveragedModel(model, multi_avg_fn=None)
        state = {"model": model, "optimizer": optimizer, "schedule": schedule, "smooth": smooth}
        sampler = DistributedSampler(Pairs(), session.world_size, session.rank, seed=3)
        loader = DataLoader(Pairs(), GLOBAL_BATCH // session.world_size, sampler=sampler)
        lengths = {"epochs": asked.epochs, "steps": asked.steps}
        with hpc_dl.Run(
            session, state, global_batch=GLOBAL_BATCH, folder=asked.folder, settings=settings, **lengths
        ) as run:
            for epoch in run.epochs():
                sampler.set_epoch(epoch)
                for batch in run.steps(loader):
                    optimizer.zero_grad()
                    loss = (model(batch) - batch["y"]).square().mean()
                    loss.backward()
                    optimizer.step()
                    smooth.update_parameters(model)
                    run.record(loss)
                    if run.position.step == asked.kill_at and session.rank == session.world_size - 1:
                        os.kill(os.getpid(), signal.SIGUSR1)
                schedule.step()
                run.evaluated(len(sampler), error=(smooth(batch) - batch["y"]).abs().mean())
        if session.rank == 0:
            numbers = torch.cat([p.double().flatten() for p in [*model.parameters(), *smooth.parameters()]])
            result = {"numbers": numbers.tolist(), "rate": optimizer.param_groups[0]["lr"], "stopped": run.stopped}
            (asked.folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
