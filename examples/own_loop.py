# SPDX-License-Identifier: Apache-2.0
"""Your own loop, made data-parallel: compare with the same loop for one process, in the comments.

python examples/own_loop.py
mpiexec -n 2 python examples/own_loop.py
"""

from __future__ import annotations

import torch
from own_model import Surrogate, pendulum
from torch import nn

import hpc_dl
from hpc_dl.data.sharding import Plan
from hpc_dl.data.workers import batches

torch.manual_seed(0)
model = Surrogate()
optimizer = torch.optim.Adam(model.parameters(), 0.003)
data = pendulum()

with hpc_dl.start() as session:  # new: who am I, and who else is there?
    device = session.device.torch_device
    model, optimizer = session.distribute(model.to(device), optimizer)  # new: same start, averaged gradients

    plan = Plan(samples=len(data.train), world_size=session.world_size, rank=session.rank, global_batch=128)
    for epoch in range(20):
        for inputs, target, together in batches(data.train, plan, epoch):  # new: this rank's part of each batch
            inputs, target = inputs.to(device), target.to(device)
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), target)
            (loss * len(inputs) * session.world_size / together).backward()  # exact also where the last batch is ragged
            optimizer.step()

    everything = torch.arange(len(data.evaluation)).numpy()
    inputs, target = (batch.to(device) for batch in data.evaluation.batch(everything))
    with torch.no_grad():
        error = (model(inputs) - target).abs().mean()
    if session.rank == 0:  # new: one rank speaks
        print(f"mean error {error:.5f} on {session.world_size} rank(s)")
