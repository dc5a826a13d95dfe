# SPDX-License-Identifier: Apache-2.0
"""A regression on any number of ranks with LBFGS: all samples in every step, and a line search.

What the closure returns is this rank's; the optimizer gets the mean of all, so that all search alike.

python examples/ports/lbfgs.py
mpiexec -n 2 python examples/ports/lbfgs.py
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import hpc_dl

STEPS = 10


def samples() -> TensorDataset:
    x = torch.randn(250, 3, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.prod(1, keepdim=True).sin())


def main(session: hpc_dl.Session) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)).to(session.device.torch_device)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4, line_search_fn="strong_wolfe")
    session.distribute(model, optimizer)
    x, y = next(iter(session.loader(samples(), global_batch=len(samples()))))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.mse_loss(model(x), y)
        session.exchange.backward(loss, weight=len(x))
        return loss

    state, folder = {"model": model, "optimizer": optimizer}, f"runs/lbfgs-{session.world_size}"
    with hpc_dl.Run(session, state, global_batch=len(samples()), steps=STEPS, folder=folder) as run:
        for _ in run.steps(range(STEPS)):
            loss = optimizer.step(closure)
            run.record(loss)
    return model


if __name__ == "__main__":
    with hpc_dl.start() as session:
        main(session)
