# SPDX-License-Identifier: Apache-2.0
"""The Trainer against a hand-written loop on the same engine, in turn, in one job.

    mpiexec -n 2 python benchmarks/trainer_overhead.py horovod
    mpiexec -n 2 python benchmarks/trainer_overhead.py torch

The hand-written loop is what a careful user writes: hvd.DistributedOptimizer or DistributedDataParallel, the same
model, batches, optimizer and number of threads; no log, no schedule, no seeds. The two take turns every few steps
within one run of the Trainer: its source of batches pauses it and lets the other loop run. Quote the median of the
ratios, turn by turn.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import hpc_dl
from hpc_dl.data.base import Arrays, Data, Pair
from hpc_dl.data.sharding import Indices, Plan
from hpc_dl.models.mnist_cnn import MnistCnn
from hpc_dl.session import Session
from hpc_dl.settings import (
    DeviceSettings,
    ExchangeSettings,
    LogSettings,
    OptimizerSettings,
    Settings,
    TrainingSettings,
)
from hpc_dl.training.trainer import Trainer

LOCAL_BATCH = 64
RATE, MOMENTUM = 0.01, 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=["horovod", "torch"])
    parser.add_argument("--turns", type=int, default=101)
    parser.add_argument("--steps", type=int, default=20, help="of a turn")
    options = parser.parse_args()
    with hpc_dl.start(ExchangeSettings(engine=options.engine), DeviceSettings(name="cpu", threads=1)) as session:
        hand, trainer = _seconds(session, options.engine, options.turns, options.steps)
    if session.rank == 0:
        ratios = [ours / theirs for ours, theirs in zip(trainer, hand, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        print(
            f"{options.engine}, {session.world_size} ranks, {len(ratios)} turns of {options.steps} steps: "
            f"by hand {1000 * statistics.median(hand) / options.steps:.2f} ms, "
            f"Trainer {1000 * statistics.median(trainer) / options.steps:.2f} ms a step; "
            f"ratio, median {ratio:.3f} (quartiles {low:.3f}, {high:.3f})"
        )


def _seconds(session: Session, engine: str, turns: int, steps: int) -> list[list[float]]:
    """Of the hand-written loop and of the Trainer, per turn, on the slowest rank.

    A function of its own, so that DistributedDataParallel is gone before the process group is: destroyed last, it
    takes gloo's lock while it holds Python's, and now and then hangs.
    """
    by_hand = {"horovod": _horovod_loop, "torch": _ddp_loop}[engine](session, Arrays(*_samples()))
    taken = Turns(session, by_hand, steps)
    with tempfile.TemporaryDirectory() as folder:
        _train(session, taken, (turns + 2) * steps, Path(folder))
    return taken.slowest_rank()


class Turns(Arrays):
    """Samples for the Trainer that, every few batches, stop its clock and run the hand-written loop."""

    def __init__(self, session: Session, by_hand: Callable[[int], None], steps: int) -> None:
        super().__init__(*_samples())
        self._session, self._by_hand, self._steps = session, by_hand, steps
        self._batches, self._begun = 0, 0.0
        self.seconds: list[tuple[float, float]] = []
        """Of the hand-written loop and of the Trainer, per turn."""

    def batch(self, indices: Indices) -> Pair:
        if self._batches % self._steps == 0:
            trained = time.perf_counter() - self._begun
            self._session.engine.barrier()
            begun = time.perf_counter()
            self._by_hand(self._steps)
            self.seconds.append((time.perf_counter() - begun, trained))
            self._session.engine.barrier()
            self._begun = time.perf_counter()
        self._batches += 1
        return super().batch(indices)

    def slowest_rank(self) -> list[list[float]]:
        """Seconds of all turns but the first two, which warm up, of the hand-written loop and of the Trainer."""
        table = torch.tensor(self.seconds[2:], dtype=torch.float64)
        return self._session.engine.reduce(table, "max").T.tolist()


def _samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4096, 1, 28, 28, generator=generator), torch.randint(0, 10, (4096,), generator=generator)


def _plain_loop(
    session: Session, samples: Arrays, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Callable[[int], None]:
    plan = Plan(samples=len(samples), world_size=session.world_size, rank=session.rank, local_batch=LOCAL_BATCH, seed=0)

    def loop(steps: int) -> None:
        model.train()
        for number in range(steps):
            indices, _ = plan.batch(*divmod(number, plan.steps_per_epoch))
            inputs, target = samples.batch(indices)
            optimizer.zero_grad()
            nn.functional.nll_loss(model(inputs), target).backward()
            optimizer.step()

    return loop


def _horovod_loop(session: Session, samples: Arrays) -> Callable[[int], None]:
    import horovod.torch as hvd

    model = MnistCnn()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    return _plain_loop(session, samples, model, optimizer)


def _ddp_loop(session: Session, samples: Arrays) -> Callable[[int], None]:
    model = nn.parallel.DistributedDataParallel(MnistCnn())
    return _plain_loop(session, samples, model, torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM))


def _train(session: Session, samples: Arrays, steps: int, folder: Path) -> None:
    model = MnistCnn()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    session.distribute(model, optimizer)
    settings = Settings(
        training=TrainingSettings(steps=steps, local_batch=LOCAL_BATCH, evaluate_every_epochs=0),
        optimizer=OptimizerSettings(learning_rate=RATE, momentum=MOMENTUM),
        log=LogSettings(progress="none"),
    )
    inputs, target = _samples()
    data = Data(samples, Arrays(inputs[:2], target[:2]))
    with contextlib.redirect_stdout(io.StringIO()):
        Trainer(model, optimizer, nn.functional.nll_loss, session, settings, folder, {}).fit(data)


if __name__ == "__main__":
    main()
