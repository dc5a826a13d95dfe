# SPDX-License-Identifier: Apache-2.0
"""A made-up study with everything a report can show: the pictures of docs/report.md come from it.

    python -m tests.report.sample FOLDER [--picture FILE.png]

writes 30 runs of a made-up ResNet-50 on 1 to 32 nodes into FOLDER/runs, reports on them, and photographs the page. Its
exchange is that of NCCL's model on nodes with 3 GB/s to the network; rank 41 is 12 ms late at 64 ranks, the repeats at
128 ranks lie apart, every run has one window of warm-up that is not marked, and a few windows are far out.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from hpc_dl.commands import report
from hpc_dl.predict.nccl import Fabric
from hpc_dl.predict.network import NcclNetwork
from hpc_dl.predict.overlap import uniform_buckets
from hpc_dl.predict.step import Habits, Workload, exchange_seconds
from hpc_dl.runlog.records import End, Evaluation, Header, Spread, Window
from hpc_dl.runlog.sinks import LogWriter
from tests.scaling import synthetic

RANKS = (4, 8, 16, 32, 64, 128)
REPEATS = 5
STEPS, WINDOWS = 10, 31
LATE_AT, LATE_RANK, LATE_SECONDS = 64, 41, 0.012
SECONDS = {"input": 0.004, "forward": 0.055, "backward": 0.105, "optimizer": 0.006, "other": 0.001}
GRADIENT_BYTES = 102_228_128
NETWORK = NcclNetwork(Fabric(per_node=4, inside_bytes_per_second=100e9, across_bytes_per_second=3e9), 1.0)
CHROMIUM = [
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1080,1490",
]


def exchange(head: Header) -> float:
    """Exposed seconds of a step."""
    buckets = uniform_buckets(GRADIENT_BYTES, 25 * 2**20)
    one = Workload("ResNet-50", head.local_batch, *(SECONDS[phase] for phase in SECONDS), buckets)
    return exchange_seconds(one, NETWORK, Habits(), head.world_size, head.nodes)


def header(ranks: int, repeat: int) -> Header:
    """One run's header."""
    return synthetic.header(
        ranks,
        run_id=f"resnet50-{ranks:03d}-{repeat}",
        name="ResNet-50 (made-up runs)",
        model="torchvision.models:resnet50",
        parameters=25_557_032,
        gradient_bytes=GRADIENT_BYTES,
        engine="horovod",
        backend="nccl",
        device="cuda",
        precision="bf16",
        epoch_samples=1_281_167,
        started=f"2026-11-2{repeat}T0{repeat}:12:00+00:00",
        job_id=f"{31_000_000 + 10 * ranks + repeat}",
        settings={
            "data": {"source": "hpc_dl.data.synthetic:images", "workers": 4 if ranks < 64 else 8},
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "exchange": {"compression": "none", "bucket_megabytes": 25.0},
        },
    )


def write_run(folder: Path, head: Header, repeat: int, random: np.random.Generator) -> None:
    """One run's folder."""
    ranks = head.world_size
    job = 1 + 0.008 * float(random.standard_normal()) + (0.05 * repeat if ranks == RANKS[-1] else 0.0)
    log = LogWriter(folder / head.run_id)
    log.write(head)
    for number in range(WINDOWS):
        log.write(_window(head, number, job, random))
    log.write(Evaluation(STEPS * WINDOWS, 1, 50_000, 12.0, {"accuracy": 0.512 + 0.001 * repeat}))
    steps = STEPS * WINDOWS
    log.write(End("finished", steps, steps * head.global_batch, 60.0, 42 + ranks / 4, 9.1))
    log.close()


def _window(head: Header, number: int, job: float, random: np.random.Generator) -> Window:
    ranks = head.world_size
    factor = STEPS * job * (1 + 0.01 * float(random.standard_normal()))
    factor *= 1.5 if number < 2 else 1.0
    factor *= 1.6 + float(random.random()) if random.random() < 0.02 else 1.0
    waiting = STEPS * 0.003 * math.sqrt(math.log(ranks))
    phases = {
        name: Spread(value * factor, 0.99 * value * factor, 1.01 * value * factor, int(random.integers(ranks)))
        for name, value in SECONDS.items()
    }
    if ranks == LATE_AT:
        late, usual = STEPS * LATE_SECONDS, phases["backward"]
        phases["backward"] = Spread(usual.mean + late / ranks, usual.min, usual.mean + late, LATE_RANK)
        waiting += late * (1 - 1 / ranks)
    exposed = exchange(head) * factor
    phases["exchange"] = Spread(exposed + waiting, exposed, exposed + 1.4 * waiting, 3)
    total = sum(phase.mean for phase in phases.values())
    return Window(
        first_step=STEPS * number,
        steps=STEPS,
        warmup=number == 0,
        epoch=0,
        samples=STEPS * head.global_batch,
        seconds=synthetic.even(total),
        phases=phases,
        step_seconds=(total / STEPS,) * STEPS,
        learning_rate=0.1,
        loss=3.1,
    )


def write_study(folder: Path) -> Path:
    """All runs; the same every time."""
    random = np.random.default_rng(1)
    for ranks in RANKS:
        for repeat in range(REPEATS):
            write_run(folder, header(ranks, repeat), repeat, random)
    return folder


def photograph(page: Path, picture: Path) -> None:
    """The top of the page as a PNG file."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *CHROMIUM,
            f"--user-data-dir={profile}",
            f"--screenshot={picture.resolve()}",
            page.resolve().as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write and report a made-up study.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    runs = options.folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    write_study(runs)
    report.main([str(runs), "--output", str(options.folder / "report"), "--epochs", "90"], {})
    if options.picture:
        photograph(options.folder / "report" / "report.html", options.picture)


if __name__ == "__main__":
    main()
