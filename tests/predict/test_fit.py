# SPDX-License-Identifier: Apache-2.0
"""The fit gives back what made the data, says how sure it is, and finds changes of protocol."""

import math

import numpy as np
import pytest

from hpc_dl.errors import HpcDlError
from hpc_dl.predict.collectives import ALGORITHMS, Link
from hpc_dl.predict.fit import Fit, Sample, fit
from hpc_dl.predict.library import LIBRARIES, algorithm

SIZES = [4.0 * 4**k for k in range(15)]  # 4 B to 1 GB
ALL = ("allreduce", "broadcast", "allgather", "reduce-scatter")


def measure(
    link: Link, library: str, noise: float, ranks: tuple[int, ...] = (2, 4), seed: int = 0, kinds: tuple[str, ...] = ALL
) -> list[Sample]:
    generator = np.random.default_rng(seed)
    samples = []
    for kind in kinds:
        for p in ranks:
            for size in SIZES:
                seconds = float(ALGORITHMS[algorithm(library, kind, p, size)](p, size, link))
                samples.append(Sample(kind, p, size, seconds * (1 + noise * generator.normal())))
    return samples


@pytest.mark.parametrize("library", ["mpich", "gloo"])
@pytest.mark.parametrize("seed", range(10))
def test_latency_and_bandwidth_come_back_within_five_per_cent_at_three_per_cent_noise(library: str, seed: int) -> None:
    link = Link(7e-6, 1 / 12e9, 1 / 40e9)
    found = fit(measure(link, library, 0.03, seed=seed), library)
    large, small = found.piece(1e9).link, found.piece(8.0).link
    assert small.latency_seconds == pytest.approx(link.latency_seconds, rel=0.05)
    assert large.seconds_per_byte == pytest.approx(link.seconds_per_byte, rel=0.05)
    assert found.separate_reduction
    assert large.reduce_seconds_per_byte == pytest.approx(link.reduce_seconds_per_byte, rel=0.25)
    assert 0.02 < found.scatter < 0.04


def test_allreduce_alone_cannot_tell_reducing_from_sending() -> None:
    link = Link(7e-6, 1 / 12e9, 1 / 40e9)
    found = fit(measure(link, "gloo", 0.01, kinds=("allreduce",)), "gloo")
    assert not found.separate_reduction
    piece = found.piece(1e9)
    assert piece.link.reduce_seconds_per_byte == 0
    assert piece.link.seconds_per_byte == pytest.approx(1 / 12e9 + 0.5 / 40e9, rel=0.02)
    assert found.seconds("allreduce", 8, 1e8) == pytest.approx(ALGORITHMS["ring"](8, 1e8, link), rel=0.02)


def test_errors_are_as_large_as_the_scatter_of_repeated_fits() -> None:
    link = Link(7e-6, 1 / 12e9)
    fits = [fit(measure(link, "gloo", 0.03, seed=s, kinds=("allreduce",)), "gloo", most_pieces=1) for s in range(200)]
    for name in ("latency_seconds", "seconds_per_byte"):
        values = [getattr(found.pieces[0].link, name) for found in fits]
        stated = np.mean([getattr(found.pieces[0].errors, name) for found in fits])
        assert np.std(values) == pytest.approx(stated, rel=0.2)


def test_a_change_of_protocol_is_found_where_it_is() -> None:
    def seconds(size: float) -> float:
        return 10e-6 + 2 * size / 1e9 if size < 30e3 else 60e-6 + 2 * size / 8e9

    generator = np.random.default_rng(5)
    samples = [
        Sample("allreduce", 2, size, seconds(size) / 2 * (1 + 0.02 * generator.normal()))
        for size in [4.0 * 2**k for k in range(29)]
    ]
    found = fit(samples, "gloo")
    assert len(found.pieces) == 2
    assert 8e3 < found.pieces[0].up_to_bytes < 64e3
    assert found.pieces[0].link.latency_seconds * 2 == pytest.approx(5e-6, rel=0.1)
    assert found.pieces[1].link.seconds_per_byte == pytest.approx(1 / 8e9, rel=0.05)
    assert found.pieces[1].up_to_bytes == math.inf


def test_draws_scatter_as_the_errors_say() -> None:
    found = fit(measure(Link(7e-6, 1 / 12e9), "mpich", 0.03, kinds=("allreduce",)), "mpich", most_pieces=1)
    generator = np.random.default_rng(0)
    drawn: list[Fit] = [found.draw(generator) for _ in range(500)]
    spread = np.std([one.pieces[0].link.seconds_per_byte for one in drawn])
    assert spread == pytest.approx(found.pieces[0].errors.seconds_per_byte, rel=0.15)


def test_too_few_sizes_are_refused() -> None:
    with pytest.raises(HpcDlError, match="3 message sizes"):
        fit([Sample("allreduce", 2, size, 1e-3) for size in (4.0, 8.0, 16.0)], "gloo")
    with pytest.raises(HpcDlError, match="0 message sizes"):
        fit([Sample("allreduce", 1, size, 1e-3) for size in SIZES], "gloo")


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_every_choice_of_a_library_has_a_formula(library: str) -> None:
    for collective in LIBRARIES[library]:
        for p in (2, 3, 7, 8, 100, 1024):
            for size in SIZES:
                assert algorithm(library, collective, p, size) in ALGORITHMS


def test_mpich_changes_algorithm_where_its_table_does() -> None:
    assert algorithm("mpich", "allreduce", 4, 8) == "recursive-doubling"
    assert algorithm("mpich", "allreduce", 4, 1024) == "rabenseifner"
    assert algorithm("mpich", "allreduce", 1024, 1024) == "recursive-doubling"
    assert algorithm("mpich", "broadcast", 4, 1e9) == "binomial-broadcast"
    assert algorithm("mpich", "broadcast", 16, 1e9) == "scatter-broadcast"
    assert algorithm("oneccl", "allreduce", 12, 2**20) == "direct"
    with pytest.raises(HpcDlError, match="did you mean mpich"):
        algorithm("mpic", "allreduce", 2, 8)
