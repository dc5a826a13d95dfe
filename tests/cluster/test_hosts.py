# SPDX-License-Identifier: Apache-2.0
"""Host lists: Slurm's brackets, PBS's node file, tasks per node."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_dl.cluster.hosts import expand_hosts, expand_tasks_per_node, short_name, unique_hosts
from hpc_dl.errors import HpcDlError


@pytest.mark.parametrize(
    ("node_list", "hosts"),
    [
        ("login1", ["login1"]),
        ("nid001234,nid[002345-002346]", ["nid001234", "nid002345", "nid002346"]),
        ("nid[001-002,007]", ["nid001", "nid002", "nid007"]),
        ("r[1-2]n[09-10]", ["r1n09", "r1n10", "r2n09", "r2n10"]),
        ("n[1-2]-ib,n9-ib", ["n1-ib", "n2-ib", "n9-ib"]),
        ("a[0-1]b[2]c[3-4]d", ["a0b2c3d", "a0b2c4d", "a1b2c3d", "a1b2c4d"]),
        ("n[8-11]", ["n8", "n9", "n10", "n11"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        ("[1-2]", ["1", "2"]),
    ],
)
def test_slurm_node_lists(node_list: str, hosts: list[str]) -> None:
    assert expand_hosts(node_list) == hosts


@pytest.mark.parametrize(
    "node_list", ["", ",", "n[1-2", "n1-2]", "n[2-1]", "n[]", "n[a-b]", "n[1-[2]]", "a b", "n[1],,n2"]
)
def test_unreadable_node_lists_are_refused(node_list: str) -> None:
    with pytest.raises(HpcDlError, match="node list"):
        expand_hosts(node_list)


names = st.from_regex(r"[a-z]{1,4}", fullmatch=True)
ranges = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=3)


@given(st.lists(st.lists(st.tuples(names, ranges), min_size=1, max_size=2), min_size=1, max_size=3), names)
def test_brackets_expand_as_written(terms: list[list[tuple[str, list[tuple[int, int, int]]]]], tail: str) -> None:
    """Build a list and its expansion side by side from the same ranges."""
    texts, expected = [], []
    for groups in terms:
        text, choices = "", []
        for name, spans in groups:
            text += f"{name}[{','.join(f'{low:0{width}d}-{low + more:0{width}d}' for low, more, width in spans)}]"
            choices.append([f"{name}{n:0{width}d}" for low, more, width in spans for n in range(low, low + more + 1)])
        texts.append(text + tail)
        expected += ["".join(parts) + tail for parts in itertools.product(*choices)]
    assert expand_hosts(",".join(texts)) == expected


def test_node_file_hosts_are_unique_in_order_whatever_the_domain() -> None:
    lines = ["x1001c0s0b0n0.hostmgmt.cm.aurora\n"] * 12 + ["\n", "x1001c0s1b0n0.hsn.cm.aurora\n", "x1001c0s0b0n0\n"]
    assert unique_hosts(lines) == ["x1001c0s0b0n0.hostmgmt.cm.aurora", "x1001c0s1b0n0.hsn.cm.aurora"]


@given(st.lists(st.tuples(names, st.sampled_from(["", ".a.b", ".c"])), max_size=20))
def test_unique_hosts_keeps_every_host_once(lines: list[tuple[str, str]]) -> None:
    hosts = unique_hosts(name + domain for name, domain in lines)
    assert [short_name(host) for host in hosts] == list(dict.fromkeys(name for name, _ in lines))


def test_addresses_are_not_cut_at_the_dot() -> None:
    assert unique_hosts(["10.0.0.1", "10.0.0.2"]) == ["10.0.0.1", "10.0.0.2"]


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 5)), min_size=1, max_size=6))
def test_tasks_per_node(groups: list[tuple[int, int]]) -> None:
    text = ",".join(f"{tasks}(x{nodes})" if nodes > 1 else str(tasks) for tasks, nodes in groups)
    assert expand_tasks_per_node(text) == [tasks for tasks, nodes in groups for _ in range(nodes)]


@pytest.mark.parametrize("text", ["", "4x2", "4(x)", "4(2)", "a", "4,,3"])
def test_unreadable_tasks_per_node_are_refused(text: str) -> None:
    with pytest.raises(HpcDlError, match="tasks per node"):
        expand_tasks_per_node(text)
