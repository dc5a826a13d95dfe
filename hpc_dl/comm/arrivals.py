# SPDX-License-Identifier: Apache-2.0
"""Where is every rank, and on what? Told to rank 0 once, at the start; worlds that fell apart end here."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from hpc_dl.cluster import machines
from hpc_dl.cluster.rank import RankRecord
from hpc_dl.cluster.variables import EXPECTED_WORLD_SIZE
from hpc_dl.cluster.worlds import Place, compare_worlds
from hpc_dl.comm.base import Engine
from hpc_dl.devices import threads
from hpc_dl.devices.base import Device
from hpc_dl.devices.binding import Binding, observe
from hpc_dl.errors import HpcDlError


class Arrival(NamedTuple):
    """What one rank tells rank 0 when it has arrived."""

    place: Place
    binding: Binding


def compare_places(
    record: RankRecord, device: Device, engine: Engine, environ: Mapping[str, str], threads_wanted: int | None
) -> list[Arrival] | None:
    """All ranks tell rank 0 where they are; its verdict, and its count of threads, are everybody's."""
    expected = _number(environ, EXPECTED_WORLD_SIZE) or record.world_size or 1
    host = record.host or socket.gethostname()
    place = Place(engine.rank, engine.world_size, host, record.local_rank, record.local_world_size, device.identity())
    arrivals = engine.gather(Arrival(place, observe(host, record.local_rank, device)))
    answer: tuple[str, str, str] | list[int] | None = None
    if arrivals is not None:
        try:
            sharing = machines.find(environ).ranks_per_device
            compare_worlds([arrival.place for arrival in arrivals], expected, sharing)
            answer = _threads(arrivals)
        except HpcDlError as error:
            answer = (error.asked, error.found, error.remedy)
    answer = engine.broadcast(answer)
    if isinstance(answer, tuple):
        raise HpcDlError(*answer)
    # Fewer where the user says so; more never: PBS sets OMP_NUM_THREADS to all CPUs of the node, for every rank.
    limit = threads.asked_for(environ)
    counts = [threads_wanted or min(count, limit or count) for count in answer]
    threads.apply(counts[engine.rank], torch)
    return arrivals and [_with_threads(arrival, counts) for arrival in arrivals]


def _with_threads(arrival: Arrival, counts: Sequence[int]) -> Arrival:
    return arrival._replace(binding=replace(arrival.binding, threads=counts[arrival.place.rank]))


def _threads(arrivals: list[Arrival]) -> list[int]:
    """Threads of every rank: its share of the cores it may run on. Nodes that are alike are counted once."""
    hosts: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        hosts.setdefault(arrival.place.host, []).append(arrival)
    shares: dict[tuple[frozenset[int], ...], list[int]] = {}
    counts = [1] * len(arrivals)
    for local in hosts.values():
        masks = tuple(arrival.binding.cpus for arrival in local)
        if masks not in shares:
            cores = threads.read_cores(frozenset().union(*masks))  # rank 0's topology serves all nodes
            shares[masks] = [threads.share(masks, number, cores) for number in range(len(masks))]
        for arrival, count in zip(local, shares[masks], strict=True):
            counts[arrival.place.rank] = count
    return counts


def _number(environ: Mapping[str, str], name: str) -> int | None:
    """A variable that is to hold a whole number, None where it is not set."""
    text = environ.get(name, "").strip()
    if text and not text.isdigit():
        raise HpcDlError(f"{name}={text}", "not a whole number", f"correct or unset {name}")
    return int(text) if text else None
