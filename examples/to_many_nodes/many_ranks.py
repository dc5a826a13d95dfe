# SPDX-License-Identifier: Apache-2.0
"""The same script on any number of ranks: `python many_ranks.py`, or `mpiexec -n 4 python many_ranks.py`."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import hpc_dl
from hpc_dl.data.base import Arrays
from hpc_dl.data.sharding import Plan, share
from hpc_dl.data.workers import batches

EPOCHS, BATCH, RATE = 20, 64, 0.1


def main() -> None:
    with hpc_dl.start() as session:
        device = session.device.torch_device
        torch.manual_seed(0)
        images, classes = load_digits(return_X_y=True)
        x = torch.tensor(images / 16, dtype=torch.float32)
        y = torch.tensor(classes)
        train_x, train_y, held_x, held_y = x[:1500], y[:1500], x[1500:], y[1500:]

        model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)).to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        model, optimizer = session.distribute(model, optimizer)

        train = Arrays(train_x, train_y)
        plan = Plan(samples=len(train), world_size=session.world_size, rank=session.rank, global_batch=BATCH, seed=0)
        for epoch in range(EPOCHS):
            total = torch.zeros(1, device=device)
            for inputs, target, samples in batches(train, plan, epoch):
                optimizer.zero_grad()
                output = model(inputs.to(device))
                loss = F.cross_entropy(output, target.to(device), reduction="sum") * session.world_size / samples
                loss.backward()
                optimizer.step()
                total += loss.detach() * samples / session.world_size
            total = session.engine.reduce(total, "sum")
            if session.rank == 0:
                print(f"epoch {epoch}: training loss {total.item() / len(train_x):.6f}", flush=True)

        start, stop = share(len(held_x), session.world_size, session.rank)
        with torch.no_grad():
            right = (model(held_x[start:stop].to(device)).argmax(1) == held_y[start:stop].to(device)).sum()
        right = session.engine.reduce(right, "sum")
        if session.rank == 0:
            print(f"held-back accuracy {right.item() / len(held_x):.4f}")
            torch.save(model.state_dict(), "model.pt")


if __name__ == "__main__":
    main()
