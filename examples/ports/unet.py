# SPDX-License-Identifier: Apache-2.0
"""A U-Net on any number of ranks: a torch data set with a loader process, batch normalisation, weighted classes.

python examples/ports/unet.py
mpiexec -n 2 python examples/ports/unet.py
PYTHONPATH=examples/ports mpiexec -n 2 hpc-dl train examples/ports/unet.toml
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import hpc_dl
from hpc_dl.data.base import Data
from hpc_dl.data.workers import MapStyle

EPOCHS, BATCH = 2, 32
RARE = (0.3, 1.7)


class Scans(Dataset):
    """Noise with bright squares; the mask says where."""

    def __init__(self, count: int = 150) -> None:
        self.noise = 0.3 * torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.noise)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        image, mask = self.noise[number].clone(), torch.zeros(16, 16, dtype=torch.long)
        top, left = number % 11, number % 9
        mask[top : top + 4, left : left + 4] = 1
        image[0] += mask
        return {"image": image, "mask": mask}


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.up, self.head = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.down(image)
        return self.head(torch.cat([fine, self.up(self.middle(fine))], 1))


def objective(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    weight = batch["image"].new_tensor(RARE)
    loss = functional.cross_entropy(model(batch["image"]), batch["mask"], weight)
    return loss, weight[batch["mask"]].sum()


def main(session: hpc_dl.Session) -> nn.Module:
    torch.manual_seed(0)
    model = session.sync_batchnorm(UNet()).to(session.device.torch_device)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    session.distribute(model, optimizer)
    loader = session.loader(Scans(), global_batch=BATCH, workers=1, shuffle=False)
    state, folder = {"model": model, "optimizer": optimizer}, f"runs/unet-{session.world_size}"
    with hpc_dl.Run(session, state, global_batch=BATCH, epochs=EPOCHS, folder=folder) as run:
        for _ in run.epochs():
            for batch in run.steps(loader):
                loss, weight = objective(model, batch)
                optimizer.zero_grad()
                session.exchange.backward(loss, weight=weight)
                optimizer.step()
                run.record(loss, weight=weight)
    return model


def data() -> Data:
    return Data(MapStyle(Scans()), MapStyle(Scans()))


if __name__ == "__main__":
    with hpc_dl.start() as session:
        main(session)
