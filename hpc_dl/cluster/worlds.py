# SPDX-License-Identifier: Apache-2.0
"""Do all ranks live in one world, each in a place of its own? Compared once, after start-up."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from hpc_dl.errors import HpcDlError


class Place(NamedTuple):
    """Where one rank found itself after start-up; gathered from all ranks."""

    rank: int
    world_size: int
    """As the engine counts, not the launcher."""
    host: str
    local_rank: int
    local_world_size: int
    device: str | None
    """What tells one device of a host from another (UUID, PCI address); None where ranks may share it (CPU)."""


_OTHER_MPI = (
    "start with the `mpiexec` that belongs to the MPI which mpi4py and Horovod were built with "
    "(`which mpiexec` should lie beside `which python`), or with srun and the right --mpi type"
)


def compare_worlds(places: Sequence[Place], expected_world_size: int, ranks_per_device: int = 1) -> None:
    """Refuse worlds that fell apart and ranks that share a place. Takes time linear in the number of ranks.

    Args:
        places: One per rank of this world, in any order.
        expected_world_size: What the job script or the launcher asked for.
        ranks_per_device: How many may share a device, by the machine's record.

    Raises:
        HpcDlError: Separate worlds, another world size than expected, or duplicates; names ranks, host and remedy.
    """
    asked = f"a world of {expected_world_size} ranks"
    if len(places) == 1 and expected_world_size > 1:
        found = f"rank {places[0].rank} on {places[0].host} is alone: {expected_world_size} separate worlds of size 1"
        raise HpcDlError(asked, found, _OTHER_MPI)
    if len(places) != expected_world_size:
        remedy = f"{_OTHER_MPI}; if the number of ranks was meant, correct HPC_DL_WORLD_SIZE in the job script"
        raise HpcDlError(asked, f"the world has {len(places)}", remedy)
    for place in places:
        if place.world_size != len(places):
            found = f"rank {place.rank} on {place.host} counts {place.world_size} ranks, there are {len(places)}"
            raise HpcDlError(asked, found, _OTHER_MPI)
    _refuse_twins(asked, places)
    refuse_crowded_devices(places, ranks_per_device)


def _refuse_twins(asked: str, places: Sequence[Place]) -> None:
    if twins := _twins(places, (place.rank for place in places)):
        found = f"{_both(twins)} are both rank {twins[0].rank}"
        raise HpcDlError(asked, found, "start all ranks with one launcher; unset RANK and the like in the job script")
    if twins := _twins(places, ((place.host, place.local_rank) for place in places)):
        found = f"{_both(twins)} are both local rank {twins[0].local_rank}"
        remedy = "give every host a name of its own; let the launcher number local ranks (do not set LOCAL_RANK)"
        raise HpcDlError(asked, found, remedy)


def refuse_crowded_devices(places: Iterable[Place], ranks_per_device: int = 1) -> None:
    """Refuse more ranks on a device than it takes.

    Raises:
        HpcDlError: Names ranks, host and device.
    """
    sharing: dict[tuple[str, str], list[Place]] = {}
    for place in places:
        if place.device is not None:
            sharing.setdefault((place.host, place.device), []).append(place)
    for (host, device), guests in sharing.items():
        if len(guests) > ranks_per_device:
            named = " and ".join(f"rank {place.rank} on {host}" for place in guests[: ranks_per_device + 1])
            raise HpcDlError(
                f"at most {ranks_per_device} to a device",
                f"{named} use the same device {device}",
                "start as many ranks per node as it has devices, and let each see all of them (--gpu-bind=none)",
            )


def _twins(places: Iterable[Place], keys: Iterable[Hashable]) -> tuple[Place, Place] | None:
    """The first two places with the same key; None as a key is nobody's twin."""
    seen: dict[Hashable, Place] = {}
    for place, key in zip(places, keys, strict=True):
        if key is not None and seen.setdefault(key, place) is not place:
            return seen[key], place
    return None


def _both(twins: tuple[Place, Place]) -> str:
    return " and ".join(f"rank {place.rank} on {place.host}" for place in twins)
