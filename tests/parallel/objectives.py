# SPDX-License-Identifier: Apache-2.0
"""Tasks whose batches are no pairs and whose models are called otherwise, trained by the Trainer.

    mpiexec -n 2 python -m tests.parallel.objectives ENGINE FOLDER

Batches are ragged, some samples weigh more than others, and a rank may be left without any.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from hpc_dl.data.base import Data, InMemory
from hpc_dl.data.workers import MapStyle
from hpc_dl.environment import environment
from hpc_dl.settings import (
    DataSettings,
    DeviceSettings,
    ExchangeSettings,
    LogSettings,
    OptimizerSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)
from hpc_dl.train import train

HERE = "tests.parallel.objectives"
SAMPLES = 21
"""With batches of 8: the last has five, so that one of four ranks holds two and the others one."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ALCF's first example for PyTorch calls model(source, targets).
def transformer() -> nn.Module:
    return nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)


def sentences() -> Data:
    parts = [torch.randn(SAMPLES, length, 8, generator=generator(seed)) for seed, length in enumerate((3, 4, 4))]
    return Data(InMemory(tuple(parts)), InMemory([part[:5] for part in parts]))


def translated(model: nn.Module, batch: Any) -> Tensor:
    source, shifted, target = batch
    return functional.mse_loss(model(source, shifted), target)


# Dictionaries of padded sequences, as those of Hugging Face: the mean is over tokens.
class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.head(self.block(self.embedding(input_ids), src_key_padding_mask=attention_mask == 0))
        return logits


def padded() -> Data:
    ids = torch.randint(0, 11, (SAMPLES, 9), generator=generator())
    mask = (torch.arange(9) < torch.randint(3, 10, (SAMPLES, 1), generator=generator(1))).long()
    whole = {"input_ids": ids, "attention_mask": mask}
    return Data(InMemory(whole), InMemory({name: part[3:16] for name, part in whole.items()}))


def next_token(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)[:, 1:]
    logits = model(**batch)[:, :-1]
    return functional.cross_entropy(logits.transpose(1, 2), labels), (labels != -100).sum()


def guessed(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    counted = batch["attention_mask"][:, 1:] == 1
    right = model(**batch)[:, :-1].argmax(-1) == batch["input_ids"][:, 1:]
    return right[counted].double().mean(), counted.sum()


# Two inputs, three terms, and derivatives of the answer by the inputs: u_t = u_xx.
@dataclass(frozen=True)
class Points:
    x: Tensor
    t: Tensor


class Field(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = super().forward(torch.stack([x, t], 1)).squeeze(1)
        return answer


def points() -> Data:
    x, t = torch.rand(2, SAMPLES, generator=generator())
    return Data(InMemory(Points(x, t)), InMemory(Points(x[:6], t[:6])))


@torch.enable_grad()
def equations(model: nn.Module, batch: Points) -> dict[str, Tensor]:
    x, t = batch.x.requires_grad_(), batch.t.requires_grad_()
    inside = model(x, t)
    u_x, u_t = torch.autograd.grad(inside.sum(), [x, t], create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    return {
        "residual": (u_t - u_xx).square().mean(),
        "start": 10 * (model(x, torch.zeros_like(t)) - torch.sin(torch.pi * x)).square().mean(),
        "border": model(torch.zeros_like(x), t).square().mean() + model(torch.ones_like(x), t).square().mean(),
    }


# Graphs of different sizes in a batch object that moves itself; the mean is over nodes.
class Graph(NamedTuple):
    nodes: Tensor
    edges: Tensor


class Graphs:
    def __init__(self, graphs: list[Graph]) -> None:
        starts = torch.tensor([0, *(len(graph.nodes) for graph in graphs)]).cumsum(0)
        self.nodes = torch.cat([graph.nodes for graph in graphs])
        self.edges = torch.cat([graph.edges + start for graph, start in zip(graphs, starts, strict=False)], 1)
        self.num_graphs = len(graphs)

    def to(self, device: torch.device) -> Graphs:
        self.nodes, self.edges = self.nodes.to(device), self.edges.to(device)
        return self


class Rings(Dataset[Graph]):
    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, number: int) -> Graph:
        count = 3 + number % 5
        nodes = torch.randn(count, 4, generator=generator(number), dtype=torch.float64)
        ring = torch.arange(count)
        return Graph(nodes, torch.stack([ring, ring.roll(1)]))


class GraphNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own, self.others, self.out = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, graphs: Graphs) -> Tensor:
        received = torch.zeros_like(graphs.nodes).index_add(0, graphs.edges[1], graphs.nodes[graphs.edges[0]])
        answer: Tensor = self.out(torch.tanh(self.own(graphs.nodes) + self.others(received)))
        return answer


def rings() -> Data:
    return Data(MapStyle(Rings(), Graphs), MapStyle(Rings(), Graphs))


def nodes(model: nn.Module, graphs: Graphs) -> tuple[dict[str, Tensor], int]:
    error = (model(graphs) - graphs.nodes.sum(1, keepdim=True)).square()
    return {"loss": error.mean(), "largest": error.max()}, len(graphs.nodes)


# A U-Net of a torch data set with loader processes and batch normalisation over all ranks; masks of bytes.
class Scans(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        image = torch.randn(1, 8, 8, generator=generator(number))
        return {"image": image, "mask": (image[0] > 0.3).byte()}


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.up, self.out = nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.down(image)
        answer: Tensor = self.out(torch.cat([fine, self.up(self.middle(fine))], 1))
        return answer


def scans() -> Data:
    return Data(MapStyle(Scans()), MapStyle(Scans()))


def segmented(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    weights = torch.tensor([0.3, 1.7], dtype=torch.float64)
    mask = batch["mask"].long()
    return functional.cross_entropy(model(batch["image"]), mask, weights), weights[mask].sum()


def settings(name: str, model: str, source: str, metrics: list[str] | None = None, **more: Any) -> Settings:
    return Settings(
        name=name,
        task=TaskSettings(model=f"{HERE}:{model}", objective=f"{HERE}:{name}", metrics=metrics),
        data=DataSettings(source=f"{HERE}:{source}", workers=more.pop("workers", 0)),
        training=TrainingSettings(epochs=2, global_batch=8, clip_norm=0.5, accumulation=more.pop("accumulation", 1)),
        optimizer=OptimizerSettings(name="adamw", learning_rate=0.01, options={"eps": 1e-3}),
        device=DeviceSettings(name="cpu", threads=1, precision="fp64", **more),
        log=LogSettings(window_steps=2, warmup_steps=1, progress="none"),
    )


TASKS = [
    settings("translated", "transformer", "sentences"),
    settings("next_token", "LanguageModel", "padded", [f"{HERE}:guessed"], accumulation=2),
    settings("equations", "Field", "points", accumulation=2),
    settings("nodes", "GraphNetwork", "rings", accumulation=2),
    settings("segmented", "UNet", "scans", sync_batchnorm=True, workers=1),
]


def main() -> None:
    engine, folder = sys.argv[1:]
    for task in TASKS:
        log = replace(task.log, folder=str(Path(folder) / task.name))
        train(replace(task, exchange=ExchangeSettings(engine=engine), log=log), environment())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
