# SPDX-License-Identifier: Apache-2.0
"""Forecasts from made-up runs of a known network: right, with intervals that hold, and refused where they must be."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_dl.cli import main
from hpc_dl.cluster import machines
from hpc_dl.errors import HpcDlError
from hpc_dl.predict import posterior
from hpc_dl.predict.advise import advise, rebucket
from hpc_dl.predict.benchmark import Benchmark, Measurement
from hpc_dl.predict.collectives import Link, lower_bound, ring
from hpc_dl.predict.fit import Sample, fit
from hpc_dl.predict.forecast import Forecast, Question, forecast
from hpc_dl.predict.machine import from_machine
from hpc_dl.predict.network import LinkedNetwork
from hpc_dl.predict.observed import read_runs
from hpc_dl.predict.overlap import fill_buckets, uniform_buckets
from hpc_dl.predict.step import Habits, Workload, predict_step
from tests.scaling import synthetic

GRADIENT = 100_000_000
LINK = Link.of(50e-6, 1e9)
NETWORK = LinkedNetwork("gloo", LINK, LINK)
ALONE = Workload("made-up", 64, 0.002, 0.1, 0.2, 0.01, 0.0, uniform_buckets(GRADIENT, 25 * 2**20))
HABITS = Habits(jitter=0.005)
BENCH = fit(
    [Sample("allreduce", p, 4.0**k, float(ring(p, 4.0**k, LINK))) for p in (2, 4) for k in range(1, 14)], "gloo"
)


def write_run(parent: Path, ranks: int, noise: float = 0.01, seed: int = 0, strong: bool = False) -> Path:
    """A run of 40 windows whose steps follow the known network, with correlated noise between windows."""
    local_batch = 512 // ranks if strong else 64
    workload = ALONE.scaled(local_batch)
    step = predict_step(workload, NETWORK, HABITS, ranks, ranks)
    exchange = step.exposed_seconds + step.straggler_seconds
    parts = {
        name: getattr(workload, f"{name}_seconds") for name in ("input", "forward", "backward", "optimizer", "other")
    }
    split = {name: value / step.seconds for name, value in parts.items()} | {"exchange": exchange / step.seconds}
    generator = np.random.default_rng((seed, ranks))
    wander = np.convolve(generator.normal(size=44), np.ones(5) / np.sqrt(5), "valid")
    header = synthetic.header(
        ranks,
        nodes=ranks,
        run_id=f"run-{ranks}",
        local_batch=local_batch,
        gradient_bytes=GRADIENT,
        batch_rule="global" if strong else "local",
        engine="torch" if ranks > 1 else "single",
        settings={"exchange": {"bucket_megabytes": 25.0}},
    )
    return synthetic.write(parent, header, (10 * step.seconds * (1 + noise * wander)).tolist(), split=split)


def ask(folder: Path, ranks: tuple[int, ...], target: int, benchmark: bool = False, **options: object) -> Forecast:
    study = read_runs([write_run(folder, size, **options) for size in ranks])  # type: ignore[arg-type]
    prior = posterior.from_benchmark(BENCH, 4) if benchmark else posterior.nothing_known()
    return forecast(Question([target], 1, prior, study), draws=60)


@pytest.mark.parametrize(("benchmark", "sizes"), [(False, (1, 2, 4, 8)), (True, (1, 2, 4))])
def test_the_next_sizes_are_right_and_inside_their_intervals(
    tmp_path: Path, benchmark: bool, sizes: tuple[int, ...]
) -> None:
    for seed, target in enumerate((8, 16, 32)):
        found = ask(tmp_path / str(seed), sizes, target, benchmark, seed=seed).points[0]
        truth = predict_step(ALONE, NETWORK, HABITS, target, target).seconds
        assert found.seconds.value == pytest.approx(truth, rel=0.06)
        assert found.seconds.low <= truth <= found.seconds.high
        efficiency = ALONE.local_seconds / truth
        assert found.efficiency.low <= efficiency <= found.efficiency.high


def test_a_faster_network_is_predicted_from_a_benchmark_of_the_slower(tmp_path: Path) -> None:
    study = read_runs([write_run(tmp_path, size) for size in (1, 2, 4)])
    question = Question([8], 1, posterior.from_benchmark(BENCH, 4), study, bandwidth_factor=4.0)
    truth = predict_step(ALONE, NETWORK.scaled(1.0, 0.25), HABITS, 8, 8).seconds
    assert forecast(question, draws=20).points[0].seconds.value == pytest.approx(truth, rel=0.06)


def test_strong_scaling_shrinks_the_local_batch(tmp_path: Path) -> None:
    truth = predict_step(ALONE.scaled(32), NETWORK, HABITS, 16, 16)
    found = ask(tmp_path / "a", (1, 2, 4, 8), 16, benchmark=True, strong=True).points[0]
    assert found.step.samples == 512
    assert found.seconds.value == pytest.approx(truth.seconds, rel=0.08)
    # While backward hid most of the exchange, runs alone did not show how slow the network is: only the interval knows.
    unsure = ask(tmp_path / "b", (1, 2, 4, 8), 16, strong=True).points[0]
    assert unsure.seconds.low <= truth.seconds <= unsure.seconds.high


def test_intervals_grow_with_the_distance(tmp_path: Path) -> None:
    near, far = (ask(tmp_path / str(size), (1, 2, 4, 8), size).points[0].seconds for size in (16, 64))
    assert (far.high - far.low) / far.value > (near.high - near.low) / near.value


def test_what_cannot_be_carried_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HpcDlError, match="runs of 2 sizes"):
        ask(tmp_path / "a", (1, 2), 8)
    with pytest.raises(HpcDlError, match="more than 8 times"):
        ask(tmp_path / "b", (1, 2, 4), 64)
    with pytest.raises(HpcDlError, match="more than 8 times"):
        ask(tmp_path / "c", (1, 2, 4), 64, benchmark=True)
    with pytest.raises(HpcDlError, match="how long a rank computes"):
        forecast(Question([8], 1, from_machine(machines.load("polaris"))))
    with pytest.raises(HpcDlError, match="560 nodes"):
        forecast(Question([4000], 4, from_machine(machines.load("polaris")), given=ALONE))
    with pytest.raises(HpcDlError, match="what the network does"):
        forecast(Question([8], 1, posterior.nothing_known(), given=ALONE))


def test_a_machine_record_carries_one_run_far(tmp_path: Path) -> None:
    study = read_runs([write_run(tmp_path, 1)])
    prior = from_machine(machines.load("perlmutter"))
    found = forecast(Question([4096], 4, prior, study), draws=40).points[0]
    assert 0.5 < found.efficiency.low < found.efficiency.value < found.efficiency.high < 1


workloads = st.builds(
    lambda forward, size, bucket: Workload(
        "any", 8, 0.0, forward, 2 * forward, 0.0, 0.0, uniform_buckets(size, bucket)
    ),
    st.floats(1e-3, 1.0),
    st.floats(1e5, 1e10),
    st.floats(1e6, 1e8),
)


@given(workloads, st.integers(1, 12), st.integers(1, 5000), st.floats(0, 0.1), st.floats(0, 1))
def test_no_prediction_beats_the_bounds(w: Workload, per_node: int, nodes: int, jitter: float, visible: float) -> None:
    ranks = per_node * nodes
    step = predict_step(w, NETWORK, Habits(jitter, visible), ranks, nodes)
    assert step.seconds >= w.local_seconds
    for bound in lower_bound(ranks, w.buckets.total_bytes, LINK):
        assert step.seconds - w.forward_seconds >= bound * (1 - 1e-9), "the exchange cannot begin before backward"


def test_advice_ranks_what_helps() -> None:
    """A network that takes three times as long as backward: more bandwidth and fewer bytes come first."""
    slow = posterior.Parameters(NETWORK.scaled(1.0, 3.0), HABITS)
    advices = advise(ALONE, slow, 16, 16)
    gains = {advice.change: advice.gain for advice in advices}
    bandwidth = next(gain for change, gain in gains.items() if "bandwidth" in change)
    assert bandwidth == pytest.approx(max(gains.values()), rel=0.15)
    assert bandwidth > 1.3
    assert [advice.gain for advice in advices] == sorted(gains.values(), reverse=True)
    compute_bound = posterior.Parameters(NETWORK.scaled(0.01, 0.001), HABITS)
    assert max(advice.gain for advice in advise(ALONE, compute_bound, 16, 16)) < 1.03


def test_buckets_keep_their_bytes_and_their_clock_when_cut_anew() -> None:
    skewed = fill_buckets([(0.05, 4.9e8), (0.95, 6e7)], 25e6)
    finer = rebucket(skewed, 0.5)
    assert finer.total_bytes == pytest.approx(skewed.total_bytes)
    assert len(finer.size_bytes) == 2 * len(skewed.size_bytes)
    assert finer.ready[-1] == 1.0
    assert np.interp(0.5, np.cumsum(finer.size_bytes) / finer.total_bytes, finer.ready) == pytest.approx(
        np.interp(0.5, np.cumsum(skewed.size_bytes) / skewed.total_bytes, skewed.ready), abs=0.02
    )


def test_the_command_predicts_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(write_run(tmp_path, size)) for size in (1, 2, 4)]
    rows = [Measurement("allreduce", 4**k, 9, float(ring(4, 4**k, LINK)), 1e-6, 2e-6, 1e-6) for k in range(1, 13)]
    bench = tmp_path / "bench.json"
    bench.write_text(Benchmark("torch", "gloo", "gloo", 4, 4, ("a",), "cpu", "now", tuple(rows)).to_json())
    output = tmp_path / "out.json"
    words = ["predict", *runs, "--benchmark", str(bench), "--ranks", "8,16", "--simulate", "5", "--output", str(output)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "benchmark on up to 4 ranks" in printed
    assert "one node 10 % slower" in printed
    values = json.loads(output.read_text())
    assert [point["ranks"] for point in values["points"]] == [8, 16]
    first = values["points"][0]
    assert sum(first["parts_seconds"].values()) == pytest.approx(first["step_seconds"]["value"])


def test_the_command_takes_figures_in_place_of_runs(capsys: pytest.CaptureFixture[str]) -> None:
    words = "predict --machine perlmutter --step-seconds 0.15 --local-batch 256 --gradient-megabytes 102 --nodes 1,1000"
    assert main(words.split()) == 0
    assert "4000" in capsys.readouterr().out
    assert main(["predict", "--step-seconds", "0.1", "--machine", "aurora", "--nodes", "4"]) == 2
    assert "--gradient-megabytes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["predict", "--machine", "aurora"])


def test_the_command_says_where_validation_went(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--validate"], ["--validate", "mine.csv", "--folds", "5"], ["--folds", "5", "--validate=mine.csv"]):
        assert main(["predict", *words]) == 2
        assert "python -m benchmarks.published [TABLE]" in capsys.readouterr().err


def test_a_run_whose_exchange_was_not_measured_is_refused(tmp_path: Path) -> None:
    """As of a followed loop that leaves its exchange to somebody who cannot be asked."""
    header = synthetic.header(4, exchanged_by="unknown")
    folder = synthetic.write(tmp_path, header, [1.0] * 20, split={**synthetic.SPLIT, "exchange": 0.0})
    with pytest.raises(HpcDlError, match="its exchange of gradients, by unknown, was not measured"):
        read_runs([folder])
