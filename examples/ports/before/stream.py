# SPDX-License-Identifier: Apache-2.0
"""An autoencoder on one process, fed by a stream: samples come one after the other and have no number."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

EPOCHS, BATCH = 2, 24


class Sensor(IterableDataset):
    """A signal in windows of eight values."""

    def __iter__(self) -> Iterator[Tensor]:
        for window in range(240):
            now = window * 0.7 + torch.arange(8)
            yield torch.sin(now) + 0.3 * torch.sin(2.3 * now)


def main() -> nn.Module:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = nn.Sequential(nn.Linear(8, 2), nn.Tanh(), nn.Linear(2, 8)).to(device)
    optimizer = torch.optim.RMSprop(model.parameters(), 0.01, eps=1e-6)
    loader = DataLoader(Sensor(), BATCH)
    for epoch in range(EPOCHS):
        for window in loader:
            window = window.to(device)
            loss = functional.smooth_l1_loss(model(window), window)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss:.4f}")
    return model


if __name__ == "__main__":
    main()
