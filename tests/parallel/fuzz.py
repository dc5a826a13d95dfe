# SPDX-License-Identifier: Apache-2.0
"""Random small trainings, each a function of its seed: on several ranks they must end where one process ends.

    python -m tests.parallel.fuzz 500            one process, 2 and 3 ranks, both engines; says which differ
    mpiexec -n 2 python -m tests.parallel.fuzz torch FIRST LAST FILE

Branches that only some samples take, shared, frozen, unused and complex parameters, one or two models with optimizers
of their own, ragged batches down to ranks without a sample, weights, accumulation, several losses, batches thrown
away, clipping, activation checkpointing, collectives of the loop's own between backward and step. float64.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import hpc_dl
from hpc_dl.session import Session
from hpc_dl.settings import DeviceSettings, ExchangeSettings
from tests.ranks import run, run_ranks

WIDTH = 4
RUNS = (("horovod", 2), ("horovod", 3), ("torch", 2), ("torch", 3))
TOLERANCE = 1e-10


class Net(nn.Module):
    """A stack of random layers; some look at the samples before they decide."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.shared = nn.Linear(WIDTH, WIDTH)
        self.kinds = [dice.choice(KINDS) for _ in range(dice.randint(1, 4))]
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in self.kinds)
        self.waves = nn.Parameter(torch.randn(WIDTH // 2 + 1, dtype=torch.complex128))
        self.head = nn.Linear(WIDTH, WIDTH)
        self.unused = nn.Parameter(torch.ones(dice.randint(1, 3)))
        for layer in self.layers:
            if dice.random() < 0.15:
                layer.weight.requires_grad_(False)
        self.reentrant = dice.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            x = KIND_OF[kind](self, layer, x)
        return self.head(x)


def _expert(net: Net, layer: nn.Module, x: Tensor) -> Tensor:
    """Only samples with a sign take part: on some ranks there may be none."""
    chosen = x.detach()[:, 0] > 0.8
    return x.index_add(0, chosen.nonzero().flatten(), torch.tanh(layer(x[chosen]))) if chosen.any() else x


KIND_OF: dict[str, Callable[[Net, nn.Module, Tensor], Tensor]] = {
    "plain": lambda net, layer, x: torch.tanh(layer(x)),
    "shared": lambda net, layer, x: torch.tanh(net.shared(torch.tanh(net.shared(x)))),
    "complex": lambda net, layer, x: torch.fft.irfft(torch.fft.rfft(x) * net.waves, n=WIDTH),
    "checkpoint": lambda net, layer, x: checkpoint(layer, x, use_reentrant=net.reentrant),
    "shared checkpoint": lambda net, layer, x: checkpoint(net.shared, x, use_reentrant=net.reentrant),
    "expert": _expert,
}
KINDS = list(KIND_OF)


class Case:
    """One training, drawn from its seed; the same on all ranks but for the samples."""

    def __init__(self, seed: int, session: Session) -> None:
        self.session, self.dice = session, random.Random(seed)
        torch.manual_seed(seed)
        self.models = [Net(self.dice) for _ in range(self.dice.choice([1, 1, 2, 3]))]
        self.exchanges, self.optimizers = [], []
        for model in self.models:
            optimizer = self._optimizer(model)
            session.distribute(model, optimizer, ExchangeSettings(bucket_megabytes=self.dice.choice([1e-4, 3e-4, 1])))
            self.exchanges.append(session.exchange)
            self.optimizers.append(optimizer)
        self.how = self.dice.choice(["scaled by hand", "weights", "weights"])
        self.data = torch.Generator().manual_seed(seed)

    def train(self) -> list[float]:
        for _ in range(self.dice.randint(2, 5)):
            self._step()
        tensors = [parameter for model in self.models for parameter in model.parameters()]
        return torch.cat(
            [torch.view_as_real(torch.complex(t.real, t.imag) if t.is_complex() else t + 0j).flatten() for t in tensors]
        ).tolist()

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters = list(model.parameters())
        if self.dice.random() < 0.3:  # some of the model's are trained by nobody
            parameters = parameters[: -self.dice.randint(1, 2)]
        kind = self.dice.choice(["sgd", "momentum", "adam"])
        if kind == "adam":
            return torch.optim.Adam(parameters, 0.01)
        return torch.optim.SGD(parameters, 0.05, momentum=0.9 if kind == "momentum" else 0.0)

    def _step(self) -> None:
        dice = self.dice
        trained = sorted(dice.sample(range(len(self.models)), dice.randint(1, len(self.models))))
        if dice.random() < 0.85:
            for model in self.models:
                model.zero_grad(set_to_none=dice.random() < 0.7)
        terms = dice.randint(1, 2)
        for term in range(terms):
            used = trained if term == 0 else sorted(dice.sample(range(len(self.models)), 1))
            self._term(used, dice.choice([1, 1, 2, 3]))
        if dice.random() < 0.4:
            mean = self.session.engine.average(torch.tensor(float(self.session.rank)))
            assert mean == (self.session.world_size - 1) / 2
        if dice.random() < 0.15:
            return  # a batch thrown away
        if dice.random() < 0.3:
            for number in trained:
                nn.utils.clip_grad_norm_(self.models[number].parameters(), 0.05)
        for number in trained:
            self.optimizers[number].step()

    def _term(self, used: list[int], passes: int) -> None:
        """One loss, over a batch in so many passes; the last one exchanges."""
        batches = [self._batch() for _ in range(passes)]
        together = sum(samples for _, samples in batches)
        for number, (x, _) in enumerate(batches, start=1):
            with self._paused(number < passes):
                self._backward(used, x, together)

    @contextlib.contextmanager
    def _paused(self, paused: bool) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for exchange in self.exchanges if paused else ():
                stack.enter_context(exchange.paused())
            yield

    def _batch(self) -> tuple[Tensor, int]:
        """This rank's samples, and how many there are in all; some ranks may get none."""
        samples = self.dice.randint(1, 7)
        x = torch.randn(samples, WIDTH, generator=self.data)
        cuts = sorted(self.dice.randint(0, samples) for _ in range(5))  # drawn for any number of ranks
        edges = [0, *cuts[: self.session.world_size - 1], samples]
        return x[edges[self.session.rank] : edges[self.session.rank + 1]], samples

    def _backward(self, used: list[int], x: Tensor, together: int) -> None:
        exchange, count = self.exchanges[used[0]], len(x)
        if count == 0:
            exchange.backward(torch.zeros(()), 0)
            return
        answer = self.models[used[0]](x.requires_grad_())
        for number in used[1:]:  # a model may be there for some samples only, and so for some ranks
            chosen = (x.detach()[:, number] > 0.3).nonzero().flatten()
            if len(chosen):
                answer = answer.index_add(0, chosen, self.models[number](answer[chosen]))
        loss = answer.square().sum(1).mean() + answer.sum(1).mean()
        if self.how == "weights":
            exchange.backward(loss, count)
        else:
            (loss * (count * self.session.world_size / together)).backward()


def main(engine: str, first: str, last: str, path: str) -> None:
    torch.set_default_dtype(torch.float64)
    with hpc_dl.start(
        ExchangeSettings(engine=engine, timeout_seconds=20), DeviceSettings(name="cpu", threads=1)
    ) as session:
        for seed in range(int(first), int(last)):
            numbers = Case(seed, session).train()
            everybody = session.engine.gather(numbers)
            if everybody is not None:
                with Path(path).open("a") as file:
                    file.write(json.dumps({"seed": seed, "ranks": everybody}) + "\n")


def differences(cases: range, folder: Path, runs: tuple[tuple[str, int], ...] = RUNS) -> list[str]:
    """Which seeds end elsewhere than on one process, and by how much."""
    words = [sys.executable, "-m", "tests.parallel.fuzz"]
    span = [str(cases.start), str(cases.stop)]
    seconds = 120 + 2 * len(cases)
    alone = run([*words, "single", *span, str(folder / "alone")], timeout_seconds=seconds)
    assert alone.code == 0, alone.output
    expected = _read(folder / "alone")
    found = []
    for engine, ranks in runs:
        path = folder / f"{engine}{ranks}"
        ended = run_ranks(ranks, words, engine, *span, str(path), timeout_seconds=seconds)
        results = _read(path)
        for seed in cases:
            if seed not in results:
                found.append(f"{engine}, {ranks} ranks: seed {seed} did not end: {ended.output[-2000:]}")
                break
            off = max(abs(a - b) for numbers in results[seed] for a, b in zip(numbers, expected[seed][0], strict=True))
            if not off < TOLERANCE:
                found.append(f"{engine}, {ranks} ranks: seed {seed} is off by {off:.1e}")
    return found


def _read(path: Path) -> dict[int, list[list[float]]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {row["seed"]: row["ranks"] for row in rows}


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(*sys.argv[1:])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            faults = differences(range(int(sys.argv[1])), Path(temporary))
        print("\n".join(faults) or "all equal")
        sys.exit(bool(faults))
