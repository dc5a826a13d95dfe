# SPDX-License-Identifier: Apache-2.0
"""Rank detection against recorded environments, refusals, and invented layouts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_environments import RECORDED, REFUSED, SHELL, cray_shasta, hydra, open_mpi, slurm_task, torchrun

from hpc_dl.cluster.rank import RankRecord, detect_rank
from hpc_dl.errors import HpcDlError


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_environments(name: str) -> None:
    environ, expected = RECORDED[name]
    assert detect_rank(environ) == expected


@pytest.mark.parametrize("name", RECORDED)
def test_the_order_of_variables_does_not_matter(name: str) -> None:
    environ, expected = RECORDED[name]
    items = list(environ.items())
    random.Random(name).shuffle(items)
    assert detect_rank(dict(items)) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_variables_values_and_remedy(name: str) -> None:
    environ, sentence = REFUSED[name]
    with pytest.raises(HpcDlError) as refusal:
        detect_rank(SHELL | environ)
    assert sentence in str(refusal.value)
    assert refusal.value.remedy


layouts = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def place(counts: list[int], cyclic: bool) -> list[tuple[int, int]]:
    """(node, local rank) of every rank, by dealing ranks out one at a time."""
    left, dealt, ranks = list(counts), [0] * len(counts), []
    node = 0
    while any(left):
        while not left[node]:
            node = (node + 1) % len(counts)
        ranks.append((node, dealt[node]))
        left[node] -= 1
        dealt[node] += 1
        node = (node + 1) % len(counts) if cyclic else node
    return ranks


@given(layouts, st.booleans(), st.booleans())
def test_slurm_layouts_block_cyclic_and_ragged(counts: list[int], cyclic: bool, shasta: bool) -> None:
    size = sum(counts)
    for rank, (node, local_rank) in enumerate(place(counts, cyclic)):
        environ = slurm_task(rank, size, local_rank, node, ",".join(map(str, counts)))
        if shasta:
            environ |= cray_shasta(rank, size, local_rank, counts[node], node)
        host = environ["SLURMD_NODENAME"]
        assert detect_rank(environ) == RankRecord(rank, size, local_rank, counts[node], node, "slurm", host)


@given(layouts, st.booleans(), st.sampled_from([hydra, open_mpi, torchrun]))
def test_the_inner_launcher_speaks_inside_a_slurm_step(counts: list[int], cyclic: bool, launcher: object) -> None:
    size = sum(counts)
    for rank, (node, local_rank) in enumerate(place(counts, cyclic)):
        daemon = slurm_task(node, len(counts), 0, node, f"1(x{len(counts)})")
        record = detect_rank(daemon | launcher(rank, size, local_rank, counts[node]))
        assert (record.rank, record.world_size) == (rank, size)
        assert (record.local_rank, record.local_world_size) == (local_rank, counts[node])


@given(st.sampled_from(sorted(RECORDED)), st.data())
def test_damaged_environments_are_refused_or_still_consistent(name: str, data: st.DataObject) -> None:
    """Drop or spoil any one variable: never a traceback, never a rank outside its world."""
    environ = dict(RECORDED[name][0])
    victim = data.draw(st.sampled_from(sorted(environ)))
    environ[victim] = data.draw(st.sampled_from(["", "-1", "999", "x", "1.5"]))
    try:
        record = detect_rank(environ)
    except HpcDlError:
        return
    assert record.world_size is None or 0 <= record.rank < record.world_size
    assert 0 <= record.local_rank < record.local_world_size
