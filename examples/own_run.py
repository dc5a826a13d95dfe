# SPDX-License-Identifier: Apache-2.0
"""Your own loop with log, checkpoints and an end in time: batches are dictionaries from a plain DataLoader.

HPC_DL_RUN_FOLDER=runs/tides-1 python examples/own_run.py      # again: it goes on where the first one ended
HPC_DL_RUN_FOLDER=runs/tides-2 mpiexec -n 2 python examples/own_run.py
hpc-dl report runs/tides-1 runs/tides-2
hpc-dl sweep --local --nodes 1,2 -- python examples/own_run.py  # the same in one command
hpc-dl job submit --machine perlmutter --account PROJECT --nodes 2 --chain 3 -- python examples/own_run.py
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

import hpc_dl

EPOCHS, GLOBAL_BATCH = 20, 128


class Tides(Dataset[dict[str, Tensor]]):
    """Two days of hourly water levels, and the level six hours later."""

    def __init__(self, samples: int) -> None:
        start = torch.arange(samples)[:, None] * 0.7
        hours = start + torch.arange(55)
        self.level = torch.sin(2 * math.pi * hours / 12.42) + 0.3 * torch.sin(2 * math.pi * hours / 24)

    def __len__(self) -> int:
        return len(self.level)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"past": self.level[index, :48], "future": self.level[index, 54:]}


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), 0.003)
    with hpc_dl.start() as session:
        device = session.device.torch_device
        model, optimizer = session.distribute(model.to(device), optimizer)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
        data = Tides(4096)
        sampler = DistributedSampler(data, session.world_size, session.rank)
        loader = DataLoader(data, GLOBAL_BATCH // session.world_size, sampler=sampler)

        state = {"model": model, "optimizer": optimizer, "schedule": schedule}
        with hpc_dl.Run(session, state, global_batch=GLOBAL_BATCH, epochs=EPOCHS) as run:
            for epoch in run.epochs():  # those that are left
                sampler.set_epoch(epoch)
                for batch in run.steps(loader):
                    optimizer.zero_grad()
                    answer = model(batch["past"].to(device))
                    loss = nn.functional.mse_loss(answer, batch["future"].to(device))
                    loss.backward()
                    optimizer.step()
                    run.record(loss)
                schedule.step()
            run.evaluated(len(batch["past"]), error=(answer - batch["future"].to(device)).abs().mean())


if __name__ == "__main__":
    main()
