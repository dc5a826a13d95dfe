# SPDX-License-Identifier: Apache-2.0
"""A U-Net on several ranks: a torch data set with a loader process, batch normalisation, weighted classes.

With DDP: a checkpoint after every epoch, resume from it, and nothing else.

torchrun --nproc-per-node 2 examples/ports/ddp/unet.py
"""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

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
    dist.init_process_group()
    rank, ranks = dist.get_rank(), dist.get_world_size()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = UNet().to(device)
    if device.type == "cuda":  # torch's does not exist on CPUs: there each rank normalises for itself
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    first, checkpoint = 0, Path("runs/unet-ddp.pt")
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"]
    together = DistributedDataParallel(model)
    sampler = DistributedSampler(Scans(), shuffle=False)
    loader = DataLoader(Scans(), BATCH // ranks, sampler=sampler, num_workers=1)
    for epoch in range(first, EPOCHS):
        sampler.set_epoch(epoch)
        for batch in loader:
            loss, weight = objective(together, {name: part.to(device) for name, part in batch.items()})
            optimizer.zero_grad()
            everybody = weight.clone()
            dist.all_reduce(everybody)
            (loss * weight * ranks / everybody).backward()
            optimizer.step()
        if rank == 0:
            print(f"epoch {epoch}: loss {loss:.4f}")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
            checkpoint.parent.mkdir(exist_ok=True)
            torch.save(state, checkpoint)
    dist.destroy_process_group()
    return model


if __name__ == "__main__":
    main()
