# SPDX-License-Identifier: Apache-2.0
"""The heat equation on one process: two inputs, three loss terms, derivatives by the inputs."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, BATCH = 3, 32


class Field(nn.Sequential):
    def __init__(self, width: int = 16) -> None:
        layers = nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        super().__init__(*layers)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(torch.stack([x, t], 1)).squeeze(1)


def points() -> TensorDataset:
    return TensorDataset(*torch.rand(2, 250, generator=torch.Generator().manual_seed(0)))


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


def main() -> nn.Module:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Field().to(device)
    optimizer = torch.optim.Adam(model.parameters(), 0.01, eps=1e-6)
    loader = DataLoader(points(), BATCH)
    for epoch in range(EPOCHS):
        for batch in loader:
            terms = objective(model, [part.to(device) for part in batch])
            loss = sum(terms.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss:.4f}, residual {terms['residual']:.4f}")
    return model


if __name__ == "__main__":
    main()
