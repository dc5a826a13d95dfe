# SPDX-License-Identifier: Apache-2.0
"""A script that knows nothing of hpc_dl: `python plain_script.py KIND STEPS [FAIL_AT]`."""

from __future__ import annotations

import os
import sys
from datetime import timedelta

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main() -> None:
    kind, steps, fail_at = sys.argv[1], int(sys.argv[2]), int((*sys.argv, -1, -1)[3])
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model: nn.Module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), 0.01)
    judge = nn.Linear(1, 1)
    small = torch.optim.SGD(judge.parameters(), 0.01)
    if kind == "ddp":
        rank, size = int(os.environ["PMI_RANK"]), int(os.environ["PMI_SIZE"])
        where = f"file://{os.environ['MEETING']}"
        torch.distributed.init_process_group("gloo", where, timedelta(seconds=60), size, rank)
        model = nn.parallel.DistributedDataParallel(model)
    elif kind == "horovod":
        import horovod.torch as hvd

        hvd.init()
        optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    loader = DataLoader(TensorDataset(torch.randn(64, 4)), 8)
    done = 0
    while done < steps:
        for (batch,) in loader:
            judge(model(batch).detach()).mean().backward()
            small.step()
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            optimizer.step()
            done += 1
            if done == fail_at:
                raise ValueError("a mistake of the script")
            if done == steps:
                break
    print(f"the script has done {done} steps, loss {float(loss.detach()):.3f}")
    if kind == "ddp":
        torch.distributed.destroy_process_group()
    elif kind == "horovod":
        hvd.shutdown()


if __name__ == "__main__":
    main()
