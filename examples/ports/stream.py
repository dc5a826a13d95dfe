# SPDX-License-Identifier: Apache-2.0
"""An autoencoder on any number of ranks, fed by a stream: samples come one after the other and have no number.

Each sample goes to one rank. Samples that no full batch of all ranks can be made of are not used; here there are none.

python examples/ports/stream.py
mpiexec -n 2 python examples/ports/stream.py
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import IterableDataset

import hpc_dl

EPOCHS, BATCH = 2, 24


class Sensor(IterableDataset):
    """A signal in windows of eight values."""

    def __iter__(self) -> Iterator[Tensor]:
        for window in range(240):
            now = window * 0.7 + torch.arange(8)
            yield torch.sin(now) + 0.3 * torch.sin(2.3 * now)


def main(session: hpc_dl.Session) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 2), nn.Tanh(), nn.Linear(2, 8)).to(session.device.torch_device)
    optimizer = torch.optim.RMSprop(model.parameters(), 0.01, eps=1e-6)
    session.distribute(model, optimizer)
    loader = session.loader(Sensor(), global_batch=BATCH)
    state, folder = {"model": model, "optimizer": optimizer}, f"runs/stream-{session.world_size}"
    with hpc_dl.Run(session, state, global_batch=BATCH, epochs=EPOCHS, folder=folder) as run:
        for _ in run.epochs():
            for window in run.steps(loader):
                loss = functional.smooth_l1_loss(model(window), window)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.record(loss)
    return model


if __name__ == "__main__":
    with hpc_dl.start() as session:
        main(session)
