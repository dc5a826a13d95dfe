# SPDX-License-Identifier: Apache-2.0
"""The Trainer against a hand-written loop on the same engine, in turn, in one job.

    mpiexec -n 2 python benchmarks/trainer_overhead.py horovod
    mpiexec -n 2 python benchmarks/trainer_overhead.py torch

The hand-written loop is what a careful user writes: hvd.DistributedOptimizer or DistributedDataParallel, the same
model, batches, optimizer and number of threads; no log, no schedule, no seeds. Rounds alternate; quote the
median of the ratios, round by round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import hpc_dl
from hpc_dl.data.base import Arrays, Data
from hpc_dl.data.sharding import Plan
from hpc_dl.models.mnist_cnn import MnistCnn
from hpc_dl.scaling.records import LogWriter
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
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    data = _data()
    with hpc_dl.start(ExchangeSettings(engine=options.engine), DeviceSettings(name="cpu", threads=1)) as session:
        by_hand = {"horovod": _horovod_loop, "torch": _ddp_loop}[options.engine](session, data)
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer_loop(session, data, Path(folder))
            for loop in (by_hand, trainer):
                loop(20)
            ratios, milliseconds = [], []
            for number in range(options.rounds):
                pair = (by_hand, trainer) if number % 2 else (trainer, by_hand)
                seconds = {loop: _seconds(session, loop, options.steps) for loop in pair}
                ratios.append(seconds[trainer] / seconds[by_hand])
                milliseconds.append([1000 * seconds[loop] / options.steps for loop in (by_hand, trainer)])
        if session.rank == 0:
            by_hand_ms, trainer_ms = (statistics.median(column) for column in zip(*milliseconds, strict=True))
            low, ratio, high = statistics.quantiles(ratios, n=4)
            print(
                f"{options.engine}, {session.world_size} ranks, {options.rounds} rounds of {options.steps} steps: "
                f"by hand {by_hand_ms:.2f} ms, Trainer {trainer_ms:.2f} ms a step; "
                f"ratio, median {ratio:.3f} (quartiles {low:.3f}, {high:.3f})"
            )


def _data() -> Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4096, 1, 28, 28, generator=generator)
    classes = torch.randint(0, 10, (4096,), generator=generator)
    return Data(Arrays(images, classes), Arrays(images[:2], classes[:2]))


def _seconds(session: Session, loop: Callable[[int], None], steps: int) -> float:
    """Time of the slowest rank."""
    session.engine.barrier()
    begun = time.perf_counter()
    loop(steps)
    passed = torch.tensor([time.perf_counter() - begun], dtype=torch.float64)
    return float(session.engine.reduce(passed, "max"))


def _plain_loop(
    session: Session, data: Data, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Callable[[int], None]:
    plan = Plan(
        samples=len(data.train), world_size=session.world_size, rank=session.rank, local_batch=LOCAL_BATCH, seed=0
    )

    def loop(steps: int) -> None:
        model.train()
        for number in range(steps):
            indices, _ = plan.batch(*divmod(number, plan.steps_per_epoch))
            inputs, target = data.train.batch(indices)
            optimizer.zero_grad()
            nn.functional.nll_loss(model(inputs), target).backward()
            optimizer.step()

    return loop


def _horovod_loop(session: Session, data: Data) -> Callable[[int], None]:
    import horovod.torch as hvd

    model = MnistCnn()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    return _plain_loop(session, data, model, optimizer)


def _ddp_loop(session: Session, data: Data) -> Callable[[int], None]:
    model = nn.parallel.DistributedDataParallel(MnistCnn())
    return _plain_loop(session, data, model, torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM))


def _trainer_loop(session: Session, data: Data, folder: Path) -> Callable[[int], None]:
    model = MnistCnn()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    session.distribute(model, optimizer)
    log = LogWriter(folder) if session.rank == 0 else None

    def loop(steps: int) -> None:
        settings = Settings(
            training=TrainingSettings(steps=steps, local_batch=LOCAL_BATCH, evaluate_every_epochs=0),
            optimizer=OptimizerSettings(learning_rate=RATE, momentum=MOMENTUM),
            log=LogSettings(progress="none"),
        )
        Trainer(model, optimizer, nn.functional.nll_loss, session, settings, folder, {}, log).fit(data)

    return loop


if __name__ == "__main__":
    main()
