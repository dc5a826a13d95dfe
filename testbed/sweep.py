# SPDX-License-Identifier: Apache-2.0
"""A scaling study on a bed: train on 1, 2, 4 and 8 hosts, benchmark on 2 and 4, at several link rates.

`python -m testbed.sweep FOLDER` leaves FOLDER/RATE/ENGINE/SHAPE/HOSTS (run folders), FOLDER/RATE/ENGINE/bench-*.json
and profile-*.json, and goes on where it was interrupted. `python -m testbed.judge FOLDER` compares predictions with it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_dl.environment import environment
from hpc_dl.errors import HpcDlError
from hpc_dl.predict.observed import COLUMNS, read_runs
from hpc_dl.runlog.records import LOG_NAME, read_run
from testbed import launch, network
from testbed.network import Bed

ROOT = Path(__file__).parent.parent
DISTURBED = 0.45
"""Of the slept time, or of the step: an eight-host run on two idle cores exceeds its sleep by up to 35 %."""
SETTINGS = """\
name = "{shape}"
[task]
model = "testbed.sleeping:Sleeper"
model_options = {{ shape = "{shape}", step_seconds = {step_seconds}, shrink = {shrink} }}
loss = "testbed.sleeping:loss"
metrics = []
[data]
source = "testbed.sleeping:data"
[training]
steps = {steps}
local_batch = 16
evaluate_every_epochs = 0
[optimizer]
name = "sgd"
momentum = 0.0
[exchange]
engine = "{engine}"
bucket_megabytes = {bucket_megabytes}
[device]
threads = 1
[log]
window_steps = {window_steps}
warmup_steps = 4
progress = "none"
"""


@dataclass(frozen=True)
class Study:
    """What is swept."""

    rates: Sequence[str] = ("50mbit", "100mbit")
    engines: Sequence[str] = ("horovod", "torch")
    shapes: Sequence[str] = ("resnet50", "vgg16", "gpt")
    hosts: Sequence[int] = (1, 2, 4, 8)
    bench_hosts: Sequence[int] = (2, 4)
    step_seconds: float = 0.3
    shrink: float = 160.0
    """So few bytes that two cores carry the packets of eight hosts."""
    bucket_megabytes: float = 0.15
    """25 MB over `shrink`."""
    steps: int = 34
    window_steps: int = 3
    smallest_bytes: int = 1024
    largest_bytes: int = 2**21
    name: str = "sweep"
    repeat_disturbed: bool = False
    """Run again what `disturbed` finds."""


def sweep(folder: Path, study: Study, environ: Mapping[str, str]) -> None:
    """Run all that is missing in `folder`."""
    environ = {**environ, "PYTHONPATH": str(ROOT)}
    bed = Bed(study.name, max(study.hosts))
    network.up(bed)
    try:
        for rate in study.rates:
            network.limit(bed, rate)
            for engine in study.engines:
                _one_engine(bed, folder.resolve() / rate / engine, study, engine, environ)
    finally:
        network.down(bed)


def _one_engine(bed: Bed, folder: Path, study: Study, engine: str, environ: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sizes = ["--smallest", str(study.smallest_bytes), "--largest", str(study.largest_bytes), "--factor", "2"]
    sizes += ["--seconds", "1", "--limit", "120", "--collectives", "allreduce"]
    for hosts in study.bench_hosts:
        output = folder / f"bench-{hosts}.json"
        if not output.exists():
            _run(bed, hosts, ["hpc-dl", "bench", "--engine", engine, "--output", str(output), *sizes], environ)
    for shape in study.shapes:
        settings = folder / f"{shape}.toml"
        settings.write_text(settings_text(study, shape, engine), encoding="utf-8")
        profile = folder / f"profile-{shape}.json"
        if not profile.exists():
            words = ["hpc-dl", "bench", "--recipe", str(settings), "--output", str(profile), "--limit", "0"]
            _run(bed, 2, words, environ)
        for hosts in study.hosts:
            run = folder / shape / str(hosts)
            if not finished(run) or (study.repeat_disturbed and disturbed(run, study)):
                shutil.rmtree(run, ignore_errors=True)
                engine_here = [] if hosts > 1 else ["--exchange.engine", "single"]
                _run(bed, hosts, ["hpc-dl", "train", str(settings), "--log.folder", str(run), *engine_here], environ)


def finished(run: Path) -> bool:
    """Whether a run folder holds a whole run."""
    return (run / LOG_NAME).exists() and read_run(run).end is not None


def disturbed(run: Path, study: Study) -> bool:
    """Whether others used the machine meanwhile: sleeping took far longer than it sleeps, or steps vary widely."""
    (size,) = read_runs([run]).sizes
    means = size.means()
    steps = size.windows[:, : len(COLUMNS) - 1].sum(axis=1)
    slow = means["forward"] + means["backward"] > (1 + DISTURBED) * study.step_seconds
    return bool(slow or steps.std() > DISTURBED * steps.mean())


def settings_text(study: Study, shape: str, engine: str) -> str:
    """The TOML of a slept workload."""
    values = {name: getattr(study, name) for name in ("step_seconds", "shrink", "steps", "bucket_megabytes")}
    return SETTINGS.format(shape=shape, engine=engine, window_steps=study.window_steps, **values)


def _run(bed: Bed, hosts: int, words: Sequence[str], environ: Mapping[str, str]) -> None:
    print(f"{hosts} hosts: {' '.join(words)}", flush=True)
    done = launch.run(bed, hosts, words, environ, timeout_seconds=400)
    if done.returncode:
        raise HpcDlError(" ".join(words), done.stdout[-2000:], "look at the output")


def main(words: Sequence[str]) -> int:
    """The whole study, or a part of it."""
    parser = argparse.ArgumentParser("python -m testbed.sweep", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rates", default=",".join(Study.rates))
    parser.add_argument("--engines", default=",".join(Study.engines))
    parser.add_argument("--shapes", default=",".join(Study.shapes))
    parser.add_argument(
        "--repeat-disturbed", action="store_true", help="run again what others on the machine disturbed"
    )
    asked = parser.parse_args(words)
    study = Study(
        repeat_disturbed=asked.repeat_disturbed,
        rates=asked.rates.split(","),
        engines=asked.engines.split(","),
        shapes=asked.shapes.split(","),
    )
    sweep(asked.folder, study, environment())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HpcDlError as error:
        print(f"testbed: {error}", file=sys.stderr)
        sys.exit(2)
