# SPDX-License-Identifier: Apache-2.0
"""Diffusion on any number of ranks: noise is added and guessed, and an average of the weights is kept beside them.

Time and noise belong to the sample and follow from its number, so that the result can be repeated on any number of
ranks; an epoch takes each image several times, each time with other noise.

python examples/ports/diffusion.py
mpiexec -n 2 python examples/ports/diffusion.py
PYTHONPATH=examples/ports mpiexec -n 2 hpc-dl train examples/ports/diffusion.toml
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset

import hpc_dl
from hpc_dl.data.base import Data
from hpc_dl.data.workers import MapStyle

EPOCHS, BATCH, TIMES = 2, 32, 4


class Noisy(Dataset):
    def __init__(self, count: int = 90) -> None:
        self.images = torch.sin(torch.arange(count)[:, None] * torch.linspace(0.1, 0.8, 8))

    def __len__(self) -> int:
        return TIMES * len(self.images)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(number)
        time, noise = torch.rand(1, generator=random), torch.randn(8, generator=random)
        image = self.images[number % len(self.images)]
        return {"noisy": time.cos() * image + time.sin() * noise, "time": time, "noise": noise}


class Denoiser(nn.Sequential):
    def __init__(self, width: int = 32) -> None:
        super().__init__(nn.Linear(9, width), nn.SiLU(), nn.Linear(width, 8))

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        return super().forward(torch.cat([noisy, time], 1))


def objective(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return functional.mse_loss(model(batch["noisy"], batch["time"]), batch["noise"])


def main(session: hpc_dl.Session) -> nn.Module:
    torch.manual_seed(0)
    model = Denoiser().to(session.device.torch_device)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.Adam(model.parameters(), 0.01, eps=1e-6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * 12)
    session.distribute(model, optimizer)
    loader = session.loader(Noisy(), global_batch=BATCH, shuffle=False)
    state = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    folder = f"runs/diffusion-{session.world_size}"
    with hpc_dl.Run(session, state, global_batch=BATCH, epochs=EPOCHS, folder=folder) as run:
        for _ in run.epochs():
            for batch in run.steps(loader):
                loss = objective(model, batch)
                optimizer.zero_grad()
                session.exchange.backward(loss, weight=loader.samples)
                optimizer.step()
                schedule.step()
                average.update_parameters(model)
                run.record(loss)
    return nn.ModuleDict({"model": model, "average": average.module})


def data() -> Data:
    return Data(MapStyle(Noisy()), MapStyle(Noisy(30)))


if __name__ == "__main__":
    with hpc_dl.start() as session:
        main(session)
