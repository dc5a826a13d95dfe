# SPDX-License-Identifier: Apache-2.0
"""A U-Net on several ranks: a torch data set with a loader process, batch normalisation, weighted classes.

With Accelerate: a checkpoint after every epoch, and resume from it. On GPUs without the variable.

ACCELERATE_USE_CPU=true torchrun --nproc-per-node 2 examples/ports/with_accelerate/unet.py
"""

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

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


def main() -> nn.Module:
    torch.manual_seed(0)
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))
    model = UNet()
    if accelerator.device.type == "cuda":  # torch's does not exist on CPUs: there each rank normalises for itself
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    loader = DataLoader(Scans(), BATCH, num_workers=1)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    folder = Path("runs/unet-accelerate")
    done = sorted(folder.glob("epoch-*"))
    if done:
        accelerator.load_state(str(done[-1]))
    for epoch in range(len(done), EPOCHS):
        for batch in loader:
            loss, weight = objective(model, batch)
            optimizer.zero_grad()
            accelerator.backward(loss * weight * accelerator.num_processes / accelerator.reduce(weight))
            optimizer.step()
        accelerator.print(f"epoch {epoch}: loss {loss:.4f}")
        accelerator.save_state(str(folder / f"epoch-{epoch:03}"))
    accelerator.end_training()
    return accelerator.unwrap_model(model)


if __name__ == "__main__":
    main()
