# SPDX-License-Identifier: Apache-2.0
"""A followed loop against the same loop bare, in turn, in one job; and do its phases sum to its steps?

    python benchmarks/follow_overhead.py single
    mpiexec -n 2 python benchmarks/follow_overhead.py torch

One model, one optimizer; every other turn of some steps is followed, with the log and no checkpoints. Quote the median
of the ratios, turn by turn; on a machine that others use, too, that of the processor's time. The phases of the log are
held against the loop's own clock around the same steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import hpc_dl
from hpc_dl.runlog.records import read_run
from hpc_dl.session import Session
from hpc_dl.settings import CheckpointSettings, DeviceSettings, ExchangeSettings, LogSettings, Settings

WIDTH, LAYERS, LOCAL_BATCH = 448, 4, 64
SETTINGS = Settings(
    log=LogSettings(progress="none", window_steps=10, warmup_steps=0), checkpoint=CheckpointSettings(at_end=False)
)


class Loop:
    """A plain loop on random numbers, with a step of about 10 ms on one core."""

    def __init__(self, session: Session) -> None:
        torch.manual_seed(0)
        layers = [layer for _ in range(LAYERS) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
        model = nn.Sequential(*layers)
        optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)
        self.model, self.optimizer = session.distribute(model, optimizer)
        self.batches = torch.randn(8, LOCAL_BATCH, WIDTH)

    def steps(self, number: int, run: hpc_dl.Follow | None) -> tuple[float, float]:
        """Seconds of so many, by the clock and of this process's threads."""
        begun, computed = time.perf_counter(), time.process_time()
        for step in range(number):
            batch = self.batches[step % len(self.batches)]
            self.optimizer.zero_grad()
            loss = self.model(batch).square().mean()
            loss.backward()
            self.optimizer.step()
            if run is not None:
                run.record(loss)
        return time.perf_counter() - begun, time.process_time() - computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=["single", "torch", "horovod"])
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--steps", type=int, default=50, help="of a turn")
    asked = parser.parse_args()
    cpu = DeviceSettings(name="cpu", threads=1)
    with tempfile.TemporaryDirectory() as folder, hpc_dl.start(ExchangeSettings(engine=asked.engine), cpu) as session:
        folder = session.engine.broadcast(folder)
        bare, followed, shares = _turns(session, asked.turns, asked.steps, Path(folder))
    if session.rank == 0:
        ratios = [
            [there / here for there, here in zip(*kind, strict=True)] for kind in zip(followed, bare, strict=True)
        ]
        clock, processor = (statistics.quantiles(kind, n=4) for kind in ratios)
        print(
            f"{session.world_size} ranks ({session.engine.name}), {asked.turns} turns of {asked.steps} steps: "
            f"bare {1000 * statistics.median(bare[0]) / asked.steps:.2f} ms, "
            f"followed {1000 * statistics.median(followed[0]) / asked.steps:.2f} ms a step; "
            f"ratio, median {clock[1]:.3f} (quartiles {clock[0]:.3f}, {clock[2]:.3f}); "
            f"of processor time {processor[1]:.3f} ({processor[0]:.3f}, {processor[2]:.3f}); "
            f"phases {100 * statistics.median(shares):.2f} % of the clock's time "
            f"({100 * min(shares):.2f} to {100 * max(shares):.2f} %)"
        )


Table = list[list[float]]
"""Seconds by the clock and of the processor, per turn."""


def _turns(session: Session, turns: int, steps: int, folder: Path) -> tuple[Table, Table, list[float]]:
    """Seconds of bare and followed turns, on the slowest rank, and what share of the latter is in rank 0's phases."""
    loop = Loop(session)
    loop.steps(steps, None)
    bare, followed, shares = [], [], []
    for turn in range(turns):
        session.engine.barrier()
        bare.append(loop.steps(steps, None))
        own = folder / str(turn)
        run = hpc_dl.Follow(
            session,
            loop.model,
            loop.optimizer,
            global_batch=LOCAL_BATCH * session.world_size,
            folder=own,
            settings=SETTINGS,
        )
        session.engine.barrier()
        run.aside()  # what came before is no step's
        followed.append(loop.steps(steps, run))
        run.close()
        if session.rank == 0:
            shares.append(
                sum(spread.mean for window in read_run(own).windows for spread in window.phases.values())
                / followed[-1][0]
            )
    table = session.engine.reduce(torch.tensor([bare, followed], dtype=torch.float64), "max")
    alone, watched = table.transpose(1, 2).tolist()
    return alone, watched, shares


if __name__ == "__main__":
    main()
