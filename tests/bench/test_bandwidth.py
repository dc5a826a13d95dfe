# SPDX-License-Identifier: Apache-2.0
"""Bandwidths are those of nccl-tests, to the digit it prints; a benchmark survives its file."""

from pathlib import Path

import pytest

from hpc_dl.errors import HpcDlError
from hpc_dl.predict.benchmark import (
    Benchmark,
    Measurement,
    ModelBuckets,
    Outlier,
    one_library,
    read_benchmark,
    samples,
)

PRINTED = [
    # As all_reduce_perf printed them: collective, ranks, size, time (us), algbw, busbw.
    # kvcache-ai/Mooncake PR 3484, NVIDIA/dgx-spark-playbooks PR 103, NVIDIA/nccl-tests issue 252
    ("allreduce", 8, 1048576, "27.76", "37.78", "66.11"),
    ("allreduce", 8, 16777216, "121.33", "138.28", "242.00"),
    ("allreduce", 8, 33554432, "195.40", "171.72", "300.51"),
    ("allreduce", 2, 65536, "67.93", "0.96", "0.96"),
    ("allreduce", 8, 1073741824, "20079", "53.48", "93.58"),
    ("allreduce", 8, 8589934592, "158070", "54.34", "95.10"),
    # By the formulas of nccl-tests' doc/PERFORMANCE.md, all_gather.cu, reduce_scatter.cu and broadcast.cu
    ("allgather", 8, 1073741824, "20079", "53.48", "46.79"),
    ("reduce-scatter", 4, 1073741824, "20079", "53.48", "40.11"),
    ("broadcast", 4, 1073741824, "20079", "53.48", "53.48"),
]


@pytest.mark.parametrize(("collective", "ranks", "size", "time", "algbw", "busbw"), PRINTED)
def test_bandwidths_to_the_digit(collective: str, ranks: int, size: int, time: str, algbw: str, busbw: str) -> None:
    """The printed digits are those of a time that rounds to the printed time."""
    half = 0.5 * 10.0 ** -len(time.partition(".")[2])
    fast, slow = (Measurement(collective, size, 20, (float(time) + off) * 1e-6, 0.0, 0.0, 0.0) for off in (-half, half))
    assert round(slow.algorithm_bandwidth, 2) <= float(algbw) <= round(fast.algorithm_bandwidth, 2)
    assert round(slow.bus_bandwidth(ranks), 2) <= float(busbw) <= round(fast.bus_bandwidth(ranks), 2)
    assert fast.bus_bandwidth(ranks) - slow.bus_bandwidth(ranks) < 0.03


def benchmark(library: str = "mpich") -> Benchmark:
    return Benchmark(
        engine="horovod",
        backend="mpi",
        library=library,
        ranks=4,
        nodes=2,
        hosts=("a", "b"),
        device="cpu",
        created="2026-01-01T00:00:00+00:00",
        measurements=(Measurement("allreduce", 1024, 9, 2e-5, 1e-5, 3e-5, 0.9e-5, (Outlier(3, "b", 1.7),)),),
        versions={"torch": "2.13.0"},
        buckets=ModelBuckets("m", 8, 0.1, 0.2, (100, 200), (0.4, 1.0), (1e-3, 2e-3)),
    )


def test_a_benchmark_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(benchmark().to_json({"scatter": 0.1}))
    assert read_benchmark(path) == benchmark()
    assert samples([benchmark()])[0].seconds == 2e-5
    assert samples([benchmark()], fastest=True)[0].seconds == 0.9e-5


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    with pytest.raises(HpcDlError, match="No such file"):
        read_benchmark(path)
    path.write_text("{}")
    with pytest.raises(HpcDlError, match="not a hpc-dl bench file"):
        read_benchmark(path)
    path.write_text(benchmark().to_json().replace('"fastest_seconds"', '"other"'))
    with pytest.raises(HpcDlError, match="fastest_seconds"):
        read_benchmark(path)


def test_two_libraries_do_not_mix() -> None:
    assert one_library([benchmark(), benchmark()]) == "mpich"
    with pytest.raises(HpcDlError, match="gloo, mpich"):
        one_library([benchmark(), benchmark("gloo")])
