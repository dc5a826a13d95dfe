# SPDX-License-Identifier: Apache-2.0
"""Eight models as their owners write them: a language model, a physics-informed network, a GAN, graphs, a U-Net,
diffusion, a stream, LBFGS. Each a function of this rank's share of every batch, as those of `loops.py`.

    mpiexec -n 2 python -m tests.parallel.models ENGINE FILE [NAME ...]

Batches are ragged, targets padded, classes weighted: what a loss averages over is given with `exchange.backward`.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hpc_dl.comm.sync_batchnorm import convert
from hpc_dl.session import Session
from tests.parallel.loops import Loop, run_loops

MODELS: dict[str, Loop] = {}
SAMPLES, BATCH = 22, 8


def model(function: Loop) -> Loop:
    MODELS[function.__name__] = function
    return function


def shares(session: Session, epochs: int = 2) -> Iterator[list[int]]:
    """This rank's samples of every batch; those of the last batch are fewer, and not the same number on every rank."""
    for _ in range(epochs):
        for batch in torch.arange(SAMPLES).split(BATCH):
            yield batch.tensor_split(session.world_size)[session.rank].tolist()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass
class Answer:
    loss: Tensor
    logits: Tensor


class LanguageModel(nn.Module):
    """Takes a batch as keywords and answers with its loss, as those of Hugging Face do."""

    def __init__(self, words: int = 11, width: int = 8) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(words, width), nn.Embedding(9, width)
        self.block = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Answer:
        length = input_ids.shape[1]
        causal = nn.Transformer.generate_square_subsequent_mask(length).isinf()
        hidden = self.embedding(input_ids) + self.places(torch.arange(length))
        logits = self.head(self.block(hidden, src_mask=causal, src_key_padding_mask=attention_mask == 0))
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return Answer(loss, logits)


@model
def a_language_model_with_padded_dictionaries(session: Session) -> Iterable[Tensor]:
    ids = torch.randint(0, 11, (SAMPLES, 9), generator=generator())
    lengths = torch.randint(3, 10, (SAMPLES,), generator=generator(1))
    mask = (torch.arange(9) < lengths[:, None]).long()
    network = LanguageModel()
    optimizer = torch.optim.AdamW(network.parameters(), 0.01, eps=1e-3)
    exchange = distribute(session, network, optimizer)
    for samples in shares(session):
        batch = {"input_ids": ids[samples], "attention_mask": mask[samples]}
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        optimizer.zero_grad()
        answer = network(**batch)
        exchange.backward(answer.loss, weight=(batch["labels"][:, 1:] != -100).sum())
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
    return network.parameters()


@model
def a_physics_informed_network(session: Session) -> Iterable[Tensor]:
    """u_t = u_xx: two inputs, three terms, derivatives of the answer in the loss."""
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(network.parameters(), 0.01, eps=1e-3)
    exchange = distribute(session, network, optimizer)
    points = torch.rand(SAMPLES, 2, generator=generator())

    def u(x: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = network(torch.stack([x, t], 1)).squeeze(1)
        return answer

    for samples in shares(session):
        x, t = points[samples].unbind(1)
        x.requires_grad_()
        t.requires_grad_()
        inside = u(x, t)
        u_x, u_t = torch.autograd.grad(inside.sum(), [x, t], create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
        residual = (u_t - u_xx).square().mean()
        start = (u(x, torch.zeros_like(t)) - torch.sin(torch.pi * x)).square().mean()
        border = u(torch.zeros_like(x), t).square().mean() + u(torch.ones_like(x), t).square().mean()
        optimizer.zero_grad()
        exchange.backward(residual + 10 * start + border, weight=len(samples))
        optimizer.step()
    return network.parameters()


@model
def a_gan(session: Session) -> Iterable[Tensor]:
    generates = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    judges = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    of_generator = torch.optim.Adam(generates.parameters(), 0.01, betas=(0.5, 0.9), eps=1e-3)
    of_judge = torch.optim.Adam(judges.parameters(), 0.01, betas=(0.5, 0.9), eps=1e-3)
    of_generates, of_judges = distribute(session, generates, of_generator), distribute(session, judges, of_judge)
    real, noise = torch.randn(SAMPLES, 2, generator=generator()), torch.randn(SAMPLES, 3, generator=generator(1))
    cross_entropy = functional.binary_cross_entropy_with_logits
    for samples in shares(session):
        fake, ones = generates(noise[samples]), torch.ones(len(samples), 1)
        of_judge.zero_grad()
        loss = cross_entropy(judges(real[samples]), ones) + cross_entropy(judges(fake.detach()), ones * 0)
        of_judges.backward(loss, weight=len(samples))
        of_judge.step()
        of_generator.zero_grad()
        of_generates.backward(cross_entropy(judges(fake), ones), weight=len(samples))
        of_generator.step()
    return [*generates.parameters(), *judges.parameters()]


class GraphNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own, self.others, self.head = nn.Linear(3, 8), nn.Linear(3, 8), nn.Linear(8, 1)

    def forward(self, nodes: Tensor, edges: Tensor, graph: Tensor, graphs: int) -> Tensor:
        gathered = torch.zeros_like(nodes).index_add(0, edges[1], nodes[edges[0]])
        hidden = torch.tanh(self.own(nodes) + self.others(gathered))
        answer: Tensor = self.head(torch.zeros(graphs, 8).index_add(0, graph, hidden)).squeeze(1)
        return answer


@model
def graphs_with_a_collate_of_their_own(session: Session) -> Iterable[Tensor]:
    def graph(number: int) -> dict[str, Tensor]:
        nodes = 2 + number % 5
        edges = torch.randint(0, nodes, (2, 3 * nodes), generator=generator(number))
        return {"x": torch.randn(nodes, 3, generator=generator(number)), "edges": edges, "y": edges.double().mean()}

    def collate(parts: list[dict[str, Tensor]]) -> dict[str, Any]:
        sizes = torch.tensor([len(part["x"]) for part in parts])
        offsets = sizes.cumsum(0) - sizes
        edges = torch.cat([part["edges"] + offset for part, offset in zip(parts, offsets, strict=True)], 1)
        which = torch.arange(len(parts)).repeat_interleave(sizes)
        x, y = torch.cat([part["x"] for part in parts]), torch.stack([part["y"] for part in parts])
        return {"batch": (x, edges, which, len(parts)), "y": y}

    network = GraphNetwork()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True)
    exchange = distribute(session, network, optimizer)
    loader = DataLoader([graph(n) for n in range(SAMPLES)], batch_sampler=list(shares(session)), collate_fn=collate)  # type: ignore[arg-type]
    for batch in loader:
        optimizer.zero_grad()
        exchange.backward(functional.mse_loss(network(*batch["batch"]), batch["y"]), weight=len(batch["y"]))
        optimizer.step()
    return network.parameters()


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        down = self.down(images)
        up = self.up(self.middle(functional.max_pool2d(down, 2)))
        answer: Tensor = self.head(torch.cat([down, up], 1))
        return answer


class Scans(Dataset[tuple[Tensor, Tensor]]):
    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image = torch.randn(1, 8, 8, generator=generator(number))
        return image, (image[0] > 0.5).long() + (image[0] > 1.5).long()


@model
def a_u_net_with_weighted_classes(session: Session) -> Iterable[Tensor]:
    network = convert(UNet(), session.engine)
    classes = torch.tensor([0.2, 1.0, 5.0])
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    exchange = distribute(session, network, optimizer)
    for images, masks in DataLoader(Scans(), batch_sampler=list(shares(session)), num_workers=1):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), masks, weight=classes)
        exchange.backward(loss, weight=classes[masks].sum())
        optimizer.step()
    return [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]


@model
def diffusion_with_a_moving_average(session: Session) -> Iterable[Tensor]:
    network = nn.Sequential(nn.Linear(5, 16), nn.SiLU(), nn.Linear(16, 4))
    smooth = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), 0.01, eps=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=6)
    exchange = distribute(session, network, optimizer)
    images = torch.randn(SAMPLES, 4, generator=generator())
    for step, samples in enumerate(shares(session)):
        time = torch.rand(SAMPLES, 1, generator=generator(step))[samples]
        noise = torch.randn(SAMPLES, 4, generator=generator(100 + step))[samples]
        noisy = torch.cos(time) * images[samples] + torch.sin(time) * noise
        optimizer.zero_grad()
        loss = functional.mse_loss(network(torch.cat([noisy, time], 1)), noise)
        exchange.backward(loss, weight=len(samples))
        optimizer.step()
        schedule.step()
        for kept, now in zip(smooth.parameters(), network.parameters(), strict=True):
            kept.data.lerp_(now.data, 0.1)
    moments = [optimizer.state[parameter]["exp_avg"] for parameter in network.parameters()]
    return [*network.parameters(), *smooth.parameters(), *moments, torch.tensor(schedule.get_last_lr())]


class Stream(IterableDataset[Tensor]):
    def __init__(self, rank: int, world_size: int) -> None:
        self.mine = rank, world_size

    def __iter__(self) -> Iterator[Tensor]:
        samples = (torch.randn(4, generator=generator(number)) for number in range(47))
        return itertools.islice(samples, self.mine[0], None, self.mine[1])


@model
def a_stream_with_a_ragged_end(session: Session) -> Iterable[Tensor]:
    network = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
    optimizer = torch.optim.RMSprop(network.parameters(), 0.01, eps=1e-3)
    exchange = distribute(session, network, optimizer)
    loader = DataLoader(Stream(session.rank, session.world_size), batch_size=12 // session.world_size)
    for x in session.until_any_ends(loader):
        optimizer.zero_grad()
        exchange.backward(functional.smooth_l1_loss(network(x), x), weight=len(x))
        optimizer.step()
    return network.parameters()


@model
def lbfgs_with_checkpointing_and_a_compiler(session: Session) -> Iterable[Tensor]:
    first, second = (
        nn.Sequential(nn.Linear(4, 8), nn.Tanh()),
        nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)),
    )
    network = nn.ModuleList([first, second])
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=6, line_search_fn="strong_wolfe")
    exchange = distribute(session, network, optimizer)
    compiled = torch.compile(second, backend="aot_eager")
    mine = torch.arange(SAMPLES).tensor_split(session.world_size)[session.rank]
    x = torch.randn(SAMPLES, 4, generator=generator())[mine]
    y = x.prod(1, keepdim=True).sin()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.mse_loss(compiled(checkpoint(first, x, use_reentrant=False)), y)
        exchange.backward(loss, weight=len(mine))
        return loss

    for _ in range(3):
        optimizer.step(closure)
    return network.parameters()


def distribute(session: Session, network: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """The exchange of this model."""
    session.distribute(network, optimizer)
    return session.exchange


if __name__ == "__main__":
    run_loops(MODELS, *sys.argv[1:])
