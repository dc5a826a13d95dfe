# SPDX-License-Identifier: Apache-2.0
"""A graph network on any number of ranks: graphs of different sizes in a batch object of its own, with a method `to`.

python examples/ports/graph_network.py
mpiexec -n 2 python examples/ports/graph_network.py
PYTHONPATH=examples/ports mpiexec -n 2 hpc-dl train examples/ports/graph_network.toml
"""

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import hpc_dl
from hpc_dl.data.base import Data
from hpc_dl.data.workers import MapStyle

EPOCHS, BATCH = 3, 32

Molecule = tuple[Tensor, Tensor, Tensor]  # atoms, bonds, energy


class Molecules(Dataset):
    """Rings of 3 to 7 atoms."""

    def __len__(self) -> int:
        return 250

    def __getitem__(self, number: int) -> Molecule:
        size = 3 + number % 5
        atoms = torch.randn(size, 4, generator=torch.Generator().manual_seed(number))
        ring = torch.arange(size)
        return atoms, torch.stack([ring, ring.roll(1)]), (atoms * atoms.roll(1, 0)).sum()


class Batch:
    def __init__(self, molecules: list[Molecule]) -> None:
        sizes = torch.tensor([len(atoms) for atoms, _, _ in molecules])
        firsts = sizes.cumsum(0) - sizes
        self.atoms = torch.cat([atoms for atoms, _, _ in molecules])
        self.bonds = torch.cat([bonds + first for (_, bonds, _), first in zip(molecules, firsts, strict=True)], 1)
        self.molecule = torch.arange(len(molecules)).repeat_interleave(sizes)
        self.energy = torch.stack([energy for _, _, energy in molecules])

    def to(self, device: torch.device) -> "Batch":
        vars(self).update({name: part.to(device) for name, part in vars(self).items()})
        return self


class GraphNetwork(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.own, self.others, self.head = nn.Linear(4, width), nn.Linear(4, width), nn.Linear(width, 1)

    def forward(self, batch: Batch) -> Tensor:
        sent, to = batch.bonds
        received = torch.zeros_like(batch.atoms).index_add(0, to, batch.atoms[sent])
        hidden = torch.tanh(self.own(batch.atoms) + self.others(received))
        energy = self.head(hidden).squeeze(1)
        return torch.zeros_like(batch.energy).index_add(0, batch.molecule, energy)


def objective(model: nn.Module, batch: Batch) -> Tensor:
    return (model(batch) - batch.energy).square().mean()


def main(session: hpc_dl.Session) -> nn.Module:
    torch.manual_seed(0)
    model = GraphNetwork().to(session.device.torch_device)
    optimizer = torch.optim.Adam(model.parameters(), 0.01, eps=1e-6)
    session.distribute(model, optimizer)
    loader = session.loader(Molecules(), global_batch=BATCH, collate_fn=Batch, shuffle=False)
    state, folder = {"model": model, "optimizer": optimizer}, f"runs/graph_network-{session.world_size}"
    with hpc_dl.Run(session, state, global_batch=BATCH, epochs=EPOCHS, folder=folder) as run:
        for _ in run.epochs():
            for batch in run.steps(loader):
                loss = objective(model, batch)
                optimizer.zero_grad()
                session.exchange.backward(loss, weight=loader.samples)
                optimizer.step()
                run.record(loss)
    return model


def data() -> Data:
    return Data(MapStyle(Molecules(), Batch), MapStyle(Molecules(), Batch))


if __name__ == "__main__":
    with hpc_dl.start() as session:
        main(session)
