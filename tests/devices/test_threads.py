# SPDX-License-Identifier: Apache-2.0
"""Threads of a rank from the affinity masks of a host."""

from pathlib import Path

import pytest

from hpc_dl.devices.threads import asked_for, parse_cpu_list, read_cores, read_mask, share
from hpc_dl.errors import HpcDlError

PERLMUTTER_CORES = {cpu: cpu % 64 for cpu in range(128)}


def cpus(*ranges: tuple[int, int]) -> frozenset[int]:
    return frozenset(cpu for first, last in ranges for cpu in range(first, last + 1))


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([cpus((0, 15))], [16]),
        ([cpus((0, 15))] * 4, [4] * 4),
        ([cpus((0, 1))] * 4, [1] * 4),
        ([cpus((0, 3)), cpus((4, 7))], [4, 4]),
        ([cpus((0, 3)), cpus((0, 3)), cpus((4, 9))], [2, 2, 6]),
        ([cpus((0, 3)), cpus((2, 5))], [3, 3]),
    ],
)
def test_share_of_the_mask(masks: list[frozenset[int]], expected: list[int]) -> None:
    assert [share(masks, rank) for rank in range(len(masks))] == expected


def test_hardware_threads_of_a_core_count_once() -> None:
    masks = [cpus((16 * rank, 16 * rank + 15), (64 + 16 * rank, 64 + 16 * rank + 15)) for rank in range(4)]
    assert [share(masks, rank, PERLMUTTER_CORES) for rank in range(4)] == [16] * 4


def test_two_ranks_on_the_siblings_of_a_core_share_it() -> None:
    assert share([cpus((0, 7)), cpus((64, 71))], 0, PERLMUTTER_CORES) == 4


def test_cores_are_read_from_the_system(tmp_path: Path) -> None:
    for cpu, siblings in {0: "0,64", 64: "0,64", 1: "1,65"}.items():
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert read_cores([0, 64, 1, 7], tmp_path) == {0: 0, 64: 0, 1: 1, 7: 7}


def test_this_process_has_a_mask() -> None:
    mask = read_mask()
    assert mask
    assert 1 <= share([mask], 0, read_cores(mask)) <= len(mask)


@pytest.mark.parametrize(("text", "expected"), [("0-2,64\n", [0, 1, 2, 64]), ("5", [5]), ("", [])])
def test_cpu_list(text: str, expected: list[int]) -> None:
    assert parse_cpu_list(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("2,1", 2), (" 4 ", 4), ("8, 2, 1", 8), ("", None)])
def test_threads_are_the_first_of_the_levels_that_openmp_allows(text: str, expected: int | None) -> None:
    assert asked_for({"OMP_NUM_THREADS": text}) == expected
    assert asked_for({}) is None


@pytest.mark.parametrize("text", ["2,", "two", "-1", "0", "2;1", "1.5"])
def test_what_is_no_list_of_threads_is_refused(text: str) -> None:
    with pytest.raises(HpcDlError, match=f"OMP_NUM_THREADS={text}"):
        asked_for({"OMP_NUM_THREADS": text})
