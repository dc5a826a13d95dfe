# SPDX-License-Identifier: Apache-2.0
"""Host lists as schedulers write them: Slurm's brackets, PBS's node file, tasks per node."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from hpc_dl.errors import HpcDlError

_PIECE = re.compile(r"\[([^\[\]]*)\]|([^\[\],\s]+)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")


def expand_hosts(node_list: str) -> list[str]:
    """The hosts of a Slurm node list, in its order; several brackets in a name vary like digits, the last fastest.

    >>> expand_hosts("nid[008-010],login1")
    ['nid008', 'nid009', 'nid010', 'login1']
    """
    return [host for term in _terms(node_list) for host in _expand_term(term, node_list)]


def unique_hosts(lines: Iterable[str]) -> list[str]:
    """The hosts of a PBS node file in order, each once, as first written; blank lines are skipped.

    PBS repeats a host once per `mpiprocs` (pbs_resources(7B)). Names are compared before the first dot: on Aurora the
    file and gethostname() disagree about the domain.
    """
    first_spelling: dict[str, str] = {}
    for line in lines:
        if name := line.strip():
            first_spelling.setdefault(short_name(name), name)
    return list(first_spelling.values())


def short_name(host: str) -> str:
    """The part before the first dot; an IPv4 address stays whole."""
    return host if re.fullmatch(r"[\d.]+", host) else host.split(".", 1)[0]


def expand_tasks_per_node(text: str) -> list[int]:
    """Tasks of each node in order, from Slurm's short form.

    >>> expand_tasks_per_node("4(x2),3")
    [4, 4, 3]
    """
    counts: list[int] = []
    for term in text.split(","):
        match = _COUNT.fullmatch(term.strip())
        if match is None:
            raise HpcDlError(f"tasks per node {text!r}", f"cannot read {term!r}", "expected the form 4(x2),3")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def _terms(node_list: str) -> list[str]:
    """Split at the commas outside brackets."""
    terms, start, depth = [], 0, 0
    for position, letter in enumerate(node_list):
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if depth not in (0, 1):
            raise _unreadable(node_list, "unbalanced brackets")
        if letter == "," and depth == 0:
            terms.append(node_list[start:position])
            start = position + 1
    if depth:
        raise _unreadable(node_list, "unbalanced brackets")
    return [*terms, node_list[start:]]


def _expand_term(term: str, node_list: str) -> list[str]:
    pieces = list(_PIECE.finditer(term.strip()))
    if not pieces or "".join(piece[0] for piece in pieces) != term.strip():
        raise _unreadable(node_list, f"{term!r} is not a host name")
    choices = [[piece[2]] if piece[2] is not None else _expand_ranges(piece[1], node_list) for piece in pieces]
    return ["".join(parts) for parts in itertools.product(*choices)]


def _expand_ranges(ranges: str, node_list: str) -> list[str]:
    """The numbers of one bracket; the width of a range's first number is kept ("08-10" gives 08, 09, 10)."""
    numbers: list[str] = []
    for text in ranges.split(","):
        match = _RANGE.fullmatch(text.strip())
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise _unreadable(node_list, f"{text!r} is not a rising range")
        last = int(match[2] or match[1])
        numbers += [f"{number:0{len(match[1])}d}" for number in range(int(match[1]), last + 1)]
    return numbers


def _unreadable(node_list: str, why: str) -> HpcDlError:
    return HpcDlError(f"node list {node_list!r}", why, "compare it with `scontrol show hostnames`")
