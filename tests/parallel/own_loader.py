# SPDX-License-Identifier: Apache-2.0
"""A loop over `session.loader`: a data set of dictionaries with a ragged end, then a stream.

mpiexec -n 2 python -m tests.parallel.own_loader ENGINE FILE
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

import hpc_dl
from hpc_dl.settings import DeviceSettings, ExchangeSettings

SAMPLES, BATCH = 23, 8


def sample(number: int) -> dict[str, Tensor]:
    x = torch.randn(4, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    return {"number": torch.tensor(number), "x": x, "y": x.sum(0, keepdim=True)}


class Numbered(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return sample(number)


class Stream(IterableDataset[dict[str, Tensor]]):
    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        yield from map(sample, range(SAMPLES))


class Sharded(Stream):
    """Deals itself out."""

    def shard(self, number: int, count: int) -> Iterator[dict[str, Tensor]]:
        yield from map(sample, range(number, SAMPLES, count))


def main() -> None:
    engine, file = sys.argv[1:]
    found: dict[str, Any] = {}
    with hpc_dl.start(ExchangeSettings(engine=engine), DeviceSettings(name="cpu", threads=1)) as session:  # type: ignore[arg-type]
        for name, dataset, workers in (
            ("numbered", Numbered(), 0),
            ("by workers", Numbered(), 1),
            ("stream", Stream(), 0),
            ("sharded by workers", Sharded(), 1),
        ):
            torch.manual_seed(0)
            model = nn.Linear(4, 1).double()
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            session.distribute(model, optimizer)
            exchange = session.exchange_of(model)
            loader = session.loader(dataset, global_batch=BATCH, workers=workers)
            seen: list[list[int]] = []
            for _ in range(2):
                for batch in loader:
                    assert len(batch["x"]) == loader.samples
                    optimizer.zero_grad()
                    loss = (model(batch["x"]) - batch["y"]).square().mean()
                    exchange.backward(loss, weight=loader.samples)
                    optimizer.step()
                    seen.append(batch["number"].tolist())
            everybody = session.engine.gather(seen)
            if everybody is not None:
                steps = [sorted(itertools.chain(*parts)) for parts in zip(*everybody, strict=True)]
                found[name] = {"steps": steps, "weights": [p.tolist() for p in model.parameters()]}
        if session.rank == 0:
            with open(file, "w", encoding="utf-8") as out:
                json.dump(found, out)


if __name__ == "__main__":
    main()
