# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 in bf16 and channels_last, one rank, one thread: the Trainer with IPEX against a hand-written IPEX loop.

Both are compared with native torch, too.

    make test-ipex    # once: makes .venv-ipex
    .venv-ipex/bin/python benchmarks/ipex_resnet18.py

Images of 64 x 64, 16 a step. Importing IPEX replaces kernels of torch for the whole process, so native loops run in a
process of their own; the loops take turns, and ratios are taken round by round. Quote the medians. What is counted is
the processor's time from one batch drawn to the next, start and evaluation left out: with one thread it is the time of
an idle machine, and about the same on a busy one.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import hpc_dl
from hpc_dl.data.base import Arrays, Data
from hpc_dl.data.sharding import Indices, Plan
from hpc_dl.devices import ipex
from hpc_dl.models.resnet import ResNet
from hpc_dl.settings import DeviceSettings, LogSettings, OptimizerSettings, Settings, TrainingSettings
from hpc_dl.training.trainer import Trainer

BATCH, RATE, MOMENTUM = 16, 0.01, 0.9
LOOPS = {"ipex": ("hand", "trainer"), "native": ("hand", "trainer")}

Loop = Callable[[int], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--worker", choices=LOOPS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    milliseconds = measure(options.rounds, options.steps)
    for name, values in milliseconds.items():
        print(f"{name:15} {statistics.median(values):7.1f} ms a step")
    for one, other in (
        ("ipex trainer", "ipex hand"),
        ("native trainer", "native hand"),
        ("ipex hand", "native hand"),
        ("ipex trainer", "native trainer"),
    ):
        ratios = [a / b for a, b in zip(milliseconds[one], milliseconds[other], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{one} / {other}: {middle:.3f} (quartiles {low:.3f}, {high:.3f})")


def measure(rounds: int, steps: int) -> dict[str, list[float]]:
    """Milliseconds of a step in every loop, the median of each round; the order turns around every round."""
    workers = {
        kind: subprocess.Popen(
            [sys.executable, __file__, "--worker", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for kind in LOOPS
    }
    found: dict[str, list[float]] = {f"{kind} {loop}": [] for kind, loops in LOOPS.items() for loop in loops}
    try:
        for number in range(-1, rounds):  # the first round warms up
            for name in list(found)[:: 1 if number % 2 else -1]:
                kind, loop = name.split()
                seconds = _ask(workers[kind], f"{loop} {steps}")
                if number >= 0:
                    found[name].append(1000 * seconds)
    finally:
        for worker in workers.values():
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait(timeout=60)
    return found


def work(kind: str) -> None:
    """Answer "LOOP STEPS" lines with the seconds of a step."""
    with (
        hpc_dl.start(device=DeviceSettings(name="cpu", threads=1, ipex=kind == "ipex"), environ={}) as session,
        tempfile.TemporaryDirectory() as folder,
    ):
        clocked, data = _data()
        loops = {"hand": _by_hand(kind, data), "trainer": _trainer(kind, data, session, Path(folder))}
        for line in sys.stdin:
            name, steps = line.split()
            clocked.drawn.clear()
            loops[name](int(steps) + 1)
            print(f"seconds {statistics.median(b - a for a, b in itertools.pairwise(clocked.drawn))}", flush=True)


def _by_hand(kind: str, data: Data) -> Loop:
    """What IPEX's documentation shows, or the same without IPEX."""
    model = ResNet(18).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    if kind == "ipex":
        import intel_extension_for_pytorch

        model, optimizer = intel_extension_for_pytorch.optimize(model, optimizer=optimizer, dtype=torch.bfloat16)
    plan = Plan(samples=len(data.train), world_size=1, rank=0, local_batch=BATCH, seed=0)

    def loop(steps: int) -> None:
        for number in range(steps):
            inputs, target = data.train.batch(plan.batch(*divmod(number, plan.steps_per_epoch))[0])
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = nn.functional.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()

    return loop


def _trainer(kind: str, data: Data, session: hpc_dl.Session, folder: Path) -> Loop:
    model: nn.Module = ResNet(18).to(memory_format=torch.channels_last)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    if kind == "ipex":
        model, optimizer = ipex.optimize(model, optimizer, "bf16")
    session.distribute(model, optimizer)

    def loop(steps: int) -> None:
        settings = Settings(
            training=TrainingSettings(steps=steps, local_batch=BATCH, evaluate_every_epochs=0),
            optimizer=OptimizerSettings(learning_rate=RATE, momentum=MOMENTUM),
            device=DeviceSettings(precision="bf16", channels_last=True),
            log=LogSettings(progress="none"),
        )
        Trainer(model, optimizer, nn.functional.cross_entropy, session, settings, folder, {}).fit(data)

    return loop


class Clocked(Arrays):
    """Notes the processor's time of every batch drawn."""

    drawn: list[float] = []

    def batch(self, indices: Indices) -> tuple[torch.Tensor, torch.Tensor]:
        self.drawn.append(time.process_time())
        return super().batch(indices)


def _data() -> tuple[Clocked, Data]:
    generator = torch.Generator().manual_seed(0)
    images, classes = torch.randn(1024, 3, 64, 64, generator=generator), torch.randint(1000, (1024,))
    clocked = Clocked(images, classes)
    return clocked, Data(clocked, Arrays(images[:1], classes[:1]))


def _ask(worker: subprocess.Popen[str], question: str) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    print(question, file=worker.stdin, flush=True)
    for line in worker.stdout:
        if line.startswith("seconds "):
            return float(line.split()[1])
    raise RuntimeError("a worker ended early; its message is above")


if __name__ == "__main__":
    main()
