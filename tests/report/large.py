# SPDX-License-Identifier: Apache-2.0
"""Reports of very many runs and of very many ranks: seconds and memory.

    python -m tests.report.large

makes 1,000 runs of 100 windows each, and one run of 127,488 ranks (all of Aurora) with 100 windows, reports on both in
processes of their own, and prints seconds, CPU seconds, peak memory and the size of the page.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpc_dl.runlog.records import LOG_NAME, Spread, Window, to_line
from tests.scaling import synthetic

SIZES = tuple(4 * 2**power for power in range(10))
AURORA_NODES, AURORA_RANKS = 10_624, 127_488
WINDOWS = 100


REPORT = """
import sys
from hpc_dl.cli import main
code = main(sys.argv[1:])
print(*(line for line in open("/proc/self/status") if line.startswith("VmHWM:")), file=sys.stderr)
sys.exit(code)
"""


@dataclass(frozen=True)
class Cost:
    """What a report took."""

    seconds: float
    cpu_seconds: float
    peak_megabytes: float
    page_kilobytes: float


def many_runs(folder: Path, count: int = 1000) -> Path:
    """`count` runs over ten sizes; runs of a size share three sets of windows, told apart by their job's speed."""
    random = np.random.default_rng(0)
    for number in range(count):
        ranks = SIZES[number % len(SIZES)]
        head = synthetic.header(ranks, run_id=f"run-{number:04d}", epoch_samples=10**7)
        job = 1 + 0.02 * float(random.standard_normal())
        if number < len(SIZES) * 3:
            times = job * 0.5 * (1 + 0.02 * random.standard_normal(WINDOWS)) * (1 + 0.01 * np.log2(ranks))
            synthetic.write(folder, head, list(times))
            continue
        twin = folder / f"run-{number % (len(SIZES) * 3):04d}" / LOG_NAME
        lines = twin.read_text().splitlines()
        (folder / head.run_id).mkdir()
        (folder / head.run_id / LOG_NAME).write_text("\n".join([to_line(head), *lines[1:]]) + "\n")
    return folder


def all_of_aurora(folder: Path) -> Path:
    """One run on every tile of Aurora: windows as the trainer writes them, reduced over 127,488 simulated ranks."""
    random = np.random.default_rng(0)
    head = synthetic.header(AURORA_RANKS, nodes=AURORA_NODES, run_id="aurora", device="xpu", backend="xccl")
    lines = [to_line(head)]
    for number in range(WINDOWS):
        ranks = {
            phase: 5 * share * (1 + 0.02 * random.standard_normal(AURORA_RANKS))
            for phase, share in synthetic.SPLIT.items()
        }
        alone = sum(seconds for phase, seconds in ranks.items() if phase != "exchange")
        ranks["exchange"] = ranks["exchange"].min() + np.max(alone) - alone
        total = np.sum(list(ranks.values()), axis=0)
        phases = {phase: _spread(seconds) for phase, seconds in ranks.items()}
        steps = tuple(float(total[0] / 10) for _ in range(10))
        window = Window(10 * number, 10, number < 2, 0, 10 * head.global_batch, _spread(total), phases, steps, 0.1, 2.0)
        lines.append(to_line(window))
    (folder / "aurora").mkdir(parents=True)
    (folder / "aurora" / LOG_NAME).write_text("\n".join(lines) + "\n")
    return folder


def _spread(values: np.ndarray) -> Spread:
    return Spread(float(values.mean()), float(values.min()), float(values.max()), int(values.argmax()))


def measure(runs: Path, output: Path) -> Cost:
    """Report on `runs` in a process of its own, which tells the peak of its memory itself: what the system knows of
    children includes those of before, and the parent that each began as."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", REPORT, "report", str(runs), "--output", str(output)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    page = (output / "report.html").stat().st_size / 1000
    return Cost(time.perf_counter() - started, cpu, int(done.stderr.split()[-2]) / 1024, page)


def main() -> None:
    print("| Study | seconds | CPU seconds | peak MiB | page, kB |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as place:
        for name, make in ((f"one run of {AURORA_RANKS:,} ranks", all_of_aurora), ("1,000 runs", many_runs)):
            cost = measure(make(Path(place) / name), Path(place) / "report")
            figures = (cost.seconds, cost.cpu_seconds, cost.peak_megabytes, cost.page_kilobytes)
            print(f"| {name}, {WINDOWS} windows each | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
