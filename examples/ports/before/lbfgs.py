# SPDX-License-Identifier: Apache-2.0
"""A regression on one process with LBFGS: all samples in every step, and a line search."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

STEPS = 10


def samples() -> TensorDataset:
    x = torch.randn(250, 3, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.prod(1, keepdim=True).sin())


def main() -> nn.Module:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)).to(device)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4, line_search_fn="strong_wolfe")
    x, y = (part.to(device) for part in samples().tensors)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for step in range(STEPS):
        loss = optimizer.step(closure)
        print(f"step {step}: loss {loss:.4f}")
    return model


if __name__ == "__main__":
    main()
