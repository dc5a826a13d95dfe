# SPDX-License-Identifier: Apache-2.0
"""Real exchange over a link of known rate: the fit finds the rate, and a prediction the step. Kept short for CI."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc_dl.predict import posterior
from hpc_dl.predict.benchmark import read_benchmark, samples
from hpc_dl.predict.fit import fit
from hpc_dl.predict.forecast import Question, forecast
from hpc_dl.predict.observed import read_runs
from testbed import launch
from testbed.network import Bed
from testbed.sweep import ROOT, Study, settings_text

pytestmark = pytest.mark.netns
STUDY = Study(step_seconds=0.2, steps=14, window_steps=2)
QUICK = ["--smallest", "65536", "--largest", "4194304", "--factor", "2", "--collectives", "allreduce"]


def run(bed: Bed, hosts: int, *words: str) -> str:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = launch.run(bed, hosts, ["hpc-dl", *words], environ, timeout_seconds=200)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_benchmark_fit_and_prediction_over_a_slow_link(make_bed: Callable[[int, str], Bed], tmp_path: Path) -> None:
    bed = make_bed(2, "100mbit")
    bench, profile, settings = tmp_path / "bench.json", tmp_path / "profile.json", tmp_path / "vgg16.toml"
    run(bed, 2, "bench", "--engine", "torch", "--output", str(bench), *QUICK)
    found = fit(samples([read_benchmark(bench)]), "gloo")
    megabits = 8e-6 / found.piece(4e6).link.seconds_per_byte
    assert 80 < megabits < 105, "TCP and Ethernet headers take about 5 of 100 Mbit/s"

    settings.write_text(settings_text(STUDY, "vgg16", "torch"))
    run(bed, 2, "bench", "--recipe", str(settings), "--output", str(profile), "--limit", "0")
    for hosts in (1, 2):
        run(bed, hosts, "train", str(settings), "--log.folder", str(tmp_path / str(hosts)))
    alone, both = (read_runs([tmp_path / str(hosts)]) for hosts in (1, 2))
    buckets = read_benchmark(profile).buckets
    assert buckets is not None
    prior = posterior.from_benchmark(found, 2)
    (point,) = forecast(Question([2], 1, prior, alone, buckets=buckets.as_sent()), draws=20).points
    measured = both.sizes[0]
    # 3.5 MB at 100 Mbit/s last 0.3 s, of which a backward of 0.15 s hides at most half.
    assert 0.1 < measured.means()["exchange"] < 0.3
    assert point.seconds.value == pytest.approx(measured.step_seconds, rel=0.25)
