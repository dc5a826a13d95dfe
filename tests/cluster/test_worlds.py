# SPDX-License-Identifier: Apache-2.0
"""The comparison of all ranks after start-up."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_dl.cluster.worlds import Place, compare_worlds
from hpc_dl.errors import HpcDlError


def world(counts: list[int], device: str | None = "tile{}") -> list[Place]:
    """Ranks placed block-wise on hosts with so many each."""
    seats = [(node, local) for node, count in enumerate(counts) for local in range(count)]
    return [
        Place(rank, len(seats), f"n{node}", local, counts[node], device.format(local) if device else None)
        for rank, (node, local) in enumerate(seats)
    ]


def refusal(places: list[Place], expected: int) -> str:
    with pytest.raises(HpcDlError) as caught:
        compare_worlds(places, expected)
    return str(caught.value)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.booleans(), st.randoms())
def test_sound_worlds_pass_in_any_order(counts: list[int], devices: bool, shuffle: random.Random) -> None:
    places = world(counts, "gpu{}" if devices else None)
    shuffle.shuffle(places)
    compare_worlds(places, len(places))


def test_separate_worlds_of_size_one_blame_the_other_mpi() -> None:
    text = refusal([Place(0, 1, "n0", 1, 4, None)], 8)
    assert "8 separate worlds of size 1" in text
    assert "`mpiexec` that belongs to the MPI" in text


def test_another_world_size_than_the_job_script_asked_for() -> None:
    text = refusal(world([4]), 8)
    assert "a world of 8 ranks" in text
    assert "the world has 4" in text
    assert "HPC_DL_WORLD_SIZE" in text


def test_ranks_that_count_differently() -> None:
    places = world([2])
    places[1] = places[1]._replace(world_size=4)
    assert "rank 1 on n0 counts 4 ranks, there are 2" in refusal(places, 2)


def test_two_ranks_with_one_number() -> None:
    places = world([2, 2])
    places[3] = places[3]._replace(rank=0)
    assert "rank 0 on n0 and rank 0 on n1 are both rank 0" in refusal(places, 4)


def test_two_ranks_on_one_seat() -> None:
    places = world([2], device=None)
    places[1] = places[1]._replace(local_rank=0)
    assert "rank 0 on n0 and rank 1 on n0 are both local rank 0" in refusal(places, 2)


def test_two_ranks_on_one_device() -> None:
    places = world([4])
    places[3] = places[3]._replace(device="tile1")
    text = refusal(places, 4)
    assert "rank 1 on n0 and rank 3 on n0 use the same device tile1" in text
    assert "--gpu-bind=none" in text


def test_as_many_ranks_on_a_device_as_the_record_allows() -> None:
    places = [place._replace(device=f"gpu{place.local_rank // 2}") for place in world([4, 4])]
    compare_worlds(places, 8, ranks_per_device=2)
    places[6] = places[6]._replace(device="gpu0")
    with pytest.raises(HpcDlError, match="rank 4 on n1 and rank 5 on n1 and rank 6 on n1 use the same device gpu0"):
        compare_worlds(places, 8, ranks_per_device=2)


def test_the_same_device_name_on_two_hosts_is_fine() -> None:
    compare_worlds(world([1, 1, 1]), 3)


def test_a_whole_aurora_is_compared_in_a_moment() -> None:
    places = world([12] * 10624)
    started = time.perf_counter()
    compare_worlds(places, 127_488)
    assert time.perf_counter() - started < 5
