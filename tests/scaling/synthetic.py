# SPDX-License-Identifier: Apache-2.0
"""Runs that nobody ran: logs with known throughput, split and noise, written as a trainer would write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc_dl.runlog.records import End, Header, Record, Run, Spread, Window
from hpc_dl.runlog.sinks import LogWriter

SPLIT = {"input": 0.02, "forward": 0.28, "backward": 0.55, "exchange": 0.1, "optimizer": 0.04, "other": 0.01}


def header(world_size: int = 1, **changes: Any) -> Header:
    """A header of a run with 4 ranks on a node and 64 samples a rank."""
    local_batch = changes.pop("local_batch", 64)
    nodes = changes.pop("nodes", -(-world_size // 4))
    base = Header(
        run_id=f"cnn-{world_size}",
        started="2026-11-24T10:00:00Z",
        name="mnist_cnn",
        model="hpc_dl.models.mnist_cnn:MnistCnn",
        parameters=21_840,
        gradient_bytes=87_360,
        world_size=world_size,
        nodes=nodes,
        ranks_per_node=(-(-world_size // nodes),) * 2,
        hosts=tuple(f"nid{node:06d}" for node in range(min(nodes, 64))),
        local_batch=local_batch,
        global_batch=local_batch * world_size,
        batch_rule="local",
        engine="single" if world_size == 1 else "horovod",
        engine_why="asked for",
        backend="none" if world_size == 1 else "mpi",
        device="cpu",
        device_why="no accelerator found",
        precision="fp32",
        launcher="slurm",
        job_id="",
        warmup_steps=10,
        git_revision="0123abc",
        versions={"hpc_dl": "0.1.0", "torch": "2.13.0"},
    )
    return replace(base, **changes)


def windows(
    run_header: Header,
    seconds: Sequence[float],
    steps: int = 10,
    warmup: int = 1,
    split: Mapping[str, float] | None = None,
    counted: int | None = None,
    keep: int | None = None,
) -> list[Window]:
    """Windows of a run: some marked as warm-up, three times as slow as the first of `seconds`, then the steady ones.

    Args:
        run_header: The run.
        seconds: Wall-clock seconds of each steady window, slowest rank.
        steps: Steps in a window.
        warmup: Number of windows marked as warm-up.
        split: Share of each phase in a window; `SPLIT` if None; empty for windows without phases.
        counted: Samples counted per step; the header's global batch if None.
        keep: Stop after so many windows.
    """
    shares = SPLIT if split is None else split
    times = [3 * seconds[0]] * warmup + list(seconds)
    return [
        Window(
            first_step=index * steps,
            steps=steps,
            warmup=index < warmup,
            epoch=0,
            samples=steps * (counted or run_header.global_batch),
            seconds=even(time),
            phases={phase: even(time * share) for phase, share in shares.items()},
            step_seconds=(time / steps,) * steps,
            learning_rate=0.01,
            loss=1.0,
        )
        for index, time in enumerate(times[:keep])
    ]


def even(value: float) -> Spread:
    """A quantity that is the same on all ranks."""
    return Spread(value, value, value, 0)


def run(run_header: Header, seconds: Sequence[float], **options: Any) -> Run:
    """A run in memory."""
    lines = windows(run_header, seconds, **options)
    return Run(Path(run_header.run_id), run_header, tuple(lines), (), _end(lines), ())


def write(parent: Path, run_header: Header, seconds: Sequence[float], **options: Any) -> Path:
    """Write a run folder named after the run's id."""
    folder = parent / run_header.run_id
    lines = windows(run_header, seconds, **options)
    log = LogWriter(folder)
    records: list[Record] = [run_header, *lines, _end(lines)]
    for record in records:
        log.write(record)
    log.close()
    return folder


def _end(lines: Sequence[Window]) -> End:
    steps, samples = sum(line.steps for line in lines), sum(line.samples for line in lines)
    total = sum(line.seconds.max for line in lines)
    return End("finished", steps, samples, total, startup_seconds=2.0, first_step_seconds=0.5)
