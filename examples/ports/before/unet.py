# SPDX-License-Identifier: Apache-2.0
"""A U-Net on one process: a torch data set with a loader process, batch normalisation, weighted classes."""

import torch
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


def objective(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    weight = batch["image"].new_tensor(RARE)
    return functional.cross_entropy(model(batch["image"]), batch["mask"], weight)


def main() -> nn.Module:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = UNet().to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    loader = DataLoader(Scans(), BATCH, num_workers=1)
    for epoch in range(EPOCHS):
        for batch in loader:
            loss = objective(model, {name: part.to(device) for name, part in batch.items()})
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss:.4f}")
    return model


if __name__ == "__main__":
    main()
