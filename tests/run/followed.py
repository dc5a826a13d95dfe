# SPDX-License-Identifier: Apache-2.0
"""A loop made data-parallel by us or by somebody else, and followed: `python -m tests.run.followed FOLDER KIND`."""

from __future__ import annotations

import argparse
import os
import signal
from typing import Any

import torch
from torch import nn

import hpc_dl
from hpc_dl.settings import DeviceSettings, ExchangeSettings, LogSettings, Settings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("kind", choices=("ours", "ddp", "horovod"))
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--steps", type=int)
    asked = parser.parse_args()
    engine: Any = "horovod" if asked.kind == "horovod" else "torch"
    settings = Settings(log=LogSettings(window_steps=5, warmup_steps=0, progress="none"))
    with hpc_dl.start(ExchangeSettings(engine=engine), DeviceSettings(name="cpu", threads=1)) as session:
        torch.manual_seed(session.rank)
        model: nn.Module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
        if asked.kind == "ddp":
            model = nn.parallel.DistributedDataParallel(model)
        elif asked.kind == "horovod":
            import horovod.torch as hvd

            hvd.broadcast_parameters(model.state_dict(), root_rank=0)
            optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
        else:
            session.distribute(model, optimizer)
        run = hpc_dl.Follow(
            session, model, optimizer, global_batch=8, steps=asked.steps, folder=asked.folder, settings=settings
        )
        for _ in run.batches(range(10**6)):
            optimizer.zero_grad()
            loss = model(torch.randn(4, 4)).square().mean()
            loss.backward()
            optimizer.step()
            run.record(loss)
            if run.position.step == asked.kill_at and session.rank == 1:
                os.kill(os.getpid(), signal.SIGUSR1)


if __name__ == "__main__":
    main()
