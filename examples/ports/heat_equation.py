# SPDX-License-Identifier: Apache-2.0
"""The heat equation on any number of ranks: two inputs, three loss terms, derivatives by the inputs.

python examples/ports/heat_equation.py
mpiexec -n 2 python examples/ports/heat_equation.py
PYTHONPATH=examples/ports mpiexec -n 2 hpc-dl train examples/ports/heat_equation.toml
"""

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import hpc_dl
from hpc_dl.data.base import Data, InMemory

EPOCHS, BATCH = 3, 32


class Field(nn.Sequential):
    def __init__(self, width: int = 16) -> None:
        layers = nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        super().__init__(*layers)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(torch.stack([x, t], 1)).squeeze(1)


def points() -> TensorDataset:
    return TensorDataset(*torch.rand(2, 250, generator=torch.Generator().manual_seed(0)))


@torch.enable_grad()  # for the Trainer's evaluation, which has none
def objective(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
    """u_t = u_xx, u(x, 0) = sin(pi x), and zero at both ends."""
    x, t = (part.requires_grad_() for part in batch)
    u = model(x, t)
    u_x, u_t = torch.autograd.grad(u.sum(), [x, t], create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    return {
        "residual": (u_t - u_xx).square().mean(),
        "start": 10 * (model(x, torch.zeros_like(t)) - torch.sin(torch.pi * x)).square().mean(),
        "border": model(torch.zeros_like(x), t).square().mean() + model(torch.ones_like(x), t).square().mean(),
    }


def main(session: hpc_dl.Session) -> nn.Module:
    torch.manual_seed(0)
    model = Field().to(session.device.torch_device)
    optimizer = torch.optim.Adam(model.parameters(), 0.01, eps=1e-6)
    session.distribute(model, optimizer)
    loader = session.loader(points(), global_batch=BATCH, shuffle=False)
    state, folder = {"model": model, "optimizer": optimizer}, f"runs/heat_equation-{session.world_size}"
    with hpc_dl.Run(session, state, global_batch=BATCH, epochs=EPOCHS, folder=folder) as run:
        for _ in run.epochs():
            for batch in run.steps(loader):
                terms = objective(model, batch)
                loss = sum(terms.values())
                optimizer.zero_grad()
                session.exchange.backward(loss, weight=loader.samples)
                optimizer.step()
                run.record(loss, **terms)
    return model


def data() -> Data:
    return Data(InMemory(points().tensors), InMemory(points().tensors))


if __name__ == "__main__":
    with hpc_dl.start() as session:
        main(session)
