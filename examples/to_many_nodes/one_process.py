# SPDX-License-Identifier: Apache-2.0
"""A training script as many are: one process, plain PyTorch. The course's last chapter takes it to many nodes."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

EPOCHS, BATCH, RATE = 20, 64, 0.1


def main() -> None:
    torch.manual_seed(0)
    images, classes = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32)
    y = torch.tensor(classes)
    train_x, train_y, held_x, held_y = x[:1500], y[:1500], x[1500:], y[1500:]

    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(train_x)).split(BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(train_x[batch]), train_y[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch}: training loss {total / len(train_x):.6f}", flush=True)

    with torch.no_grad():
        right = (model(held_x).argmax(1) == held_y).sum()
    print(f"held-back accuracy {right / len(held_x):.4f}")
    torch.save(model.state_dict(), "model.pt")


if __name__ == "__main__":
    main()
