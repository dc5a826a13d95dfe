# SPDX-License-Identifier: Apache-2.0
"""Rank, device and engine of this process, started in the one order that works everywhere, and checked.

The order (Aurora demands it): rank from the environment, MPI, torch, the device made current, the engine. Then all
ranks compare where they are. `hpc_dl.train` is built on a session, and so is your own loop:

    with hpc_dl.start() as session:
        model, optimizer = session.distribute(model, optimizer)
        ...

Leaving the `with` block by an exception ends the job on all ranks and names this one.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import socket
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from hpc_dl import comm
from hpc_dl.cluster import machines
from hpc_dl.cluster.rank import RankRecord, detect_rank
from hpc_dl.cluster.variables import EXPECTED_WORLD_SIZE
from hpc_dl.cluster.worlds import Place, compare_worlds
from hpc_dl.comm import mpi
from hpc_dl.comm.base import Engine, Work
from hpc_dl.comm.failure import fail
from hpc_dl.comm.wrap import Exchange, wrap
from hpc_dl.devices import base as devices
from hpc_dl.devices import threads
from hpc_dl.devices.base import Device
from hpc_dl.devices.binding import Binding, observe
from hpc_dl.environment import environment
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import DeviceSettings, ExchangeSettings

Item = TypeVar("Item")


class Arrival(NamedTuple):
    """What one rank tells rank 0 when it has arrived."""

    place: Place
    binding: Binding


class Distributed(NamedTuple):
    """What was made data-parallel together."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    exchange: Exchange


_Weak = tuple["weakref.ref[nn.Module]", "weakref.ref[torch.optim.Optimizer]", "weakref.ref[Exchange]"]


@dataclass
class Session:
    """A started rank among its fellows."""

    record: RankRecord
    device: Device
    engine: Engine
    arrivals: list[Arrival] | None
    """Where every rank is and what it got; on rank 0 only."""
    environ: Mapping[str, str]
    exchange: Exchange | None = None
    """Of the model that was distributed last."""
    _distributed: list[_Weak] = field(default_factory=list)
    ends_with: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """What ends with the session, while the ranks can still talk."""
    failed: bool = False
    """Does the session end by an error?"""

    @property
    def rank(self) -> int:
        return self.engine.rank

    @property
    def world_size(self) -> int:
        return self.engine.world_size

    def distribute(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, settings: ExchangeSettings | None = None
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Make model and optimizer data-parallel, in place; they are returned as they came.

        All ranks get rank 0's parameters, buffers and optimizer state. From now on every gradient is the mean over
        ranks when `backward()` returns; a rank without a backward calls `session.exchange.finish()` in its place.
        `session.exchange.backward(loss, weight)` is exact for losses that average over `weight` things.
        """
        self.exchange = wrap(self.engine, model, optimizer, settings or ExchangeSettings())
        self._distributed.append((weakref.ref(model), weakref.ref(optimizer), weakref.ref(self.exchange)))
        self._count_steps(optimizer)
        return model, optimizer

    @property
    def distributed(self) -> list[Distributed]:
        """What was distributed and is still there, in that order."""
        there = ((model(), optimizer(), exchange()) for model, optimizer, exchange in self._distributed)
        return [Distributed(*part) for part in there if None not in part]  # type: ignore[arg-type]

    def exchange_of(self, part: nn.Module | torch.optim.Optimizer) -> Exchange:
        """The gradient exchange of a model or optimizer, where several were distributed.

        Raises:
            HpcDlError: It was not.
        """
        for model, optimizer, exchange in reversed(self.distributed):
            if part is model or part is optimizer:
                return exchange
        raise HpcDlError(
            f"the exchange of this {type(part).__name__}",
            "it is none of those that were distributed",
            "call session.distribute(model, optimizer), and ask with one of the two",
        )

    def _count_steps(self, optimizer: torch.optim.Optimizer) -> None:
        """The engine knows the steps of the optimizer that has done most."""
        counter = itertools.count(1)

        def stepped(*_: Any) -> None:
            self.engine.steps = max(self.engine.steps, next(counter))

        optimizer.register_step_post_hook(stepped)

    def until_any_ends(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The batches of this rank until some rank has none left: for streams of unknown and unequal length.

        All ranks get the same number. What others have left is not used. One batch is read ahead, while its question
        to the others ("do you have one?") travels.
        """
        waiting = iter(batches)

        def ask() -> tuple[list[Item], torch.Tensor, Work]:
            item = list(itertools.islice(waiting, 1))
            there = torch.tensor([float(len(item))])
            return item, there, self.engine.reduce_async(there, "min", "until_any_ends")

        item, there, work = ask()
        work.wait()
        while there.item():
            current = item
            item, there, work = ask()
            yield from current
            work.wait()

    def close(self) -> None:
        """Leave the other ranks in order."""
        if not self.failed:
            self.ends_with.close()
        self.engine.stop()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None or (isinstance(error, SystemExit) and not error.code):
            self.close()
        else:
            self.failed = True
            fail(error, self.record, self.engine)


def start(
    exchange: ExchangeSettings | None = None,
    device: DeviceSettings | None = None,
    environ: Mapping[str, str] | None = None,
) -> Session:
    """Find out who this process is, take its device, join the other ranks and compare places with them.

    Args:
        exchange: Which engine, and how long a collective may take.
        device: Which device, and how many threads.
        environ: The environment; by default that of the process.

    Raises:
        HpcDlError: A wish that cannot be met, or ranks that do not form one world, on one process. Where several ranks
            run, the job ends on all of them instead, naming the rank.
    """
    exchange, device = exchange or ExchangeSettings(), device or DeviceSettings()
    environ = environment() if environ is None else environ
    record = _with_world_size(detect_rank(environ))
    engine: Engine | None = None
    try:
        mpi.refuse_foreign_launcher(record.launcher)
        chosen = _device(device, record, environ)
        engine = comm.choose(exchange.engine, record, chosen.name, exchange.host_staging)
        engine.start(record, chosen, environ, exchange.timeout_seconds)
        arrivals = _compare(record, chosen, engine, environ, device.threads)
    except Exception as error:
        fail(error, record, engine)
        raise
    session = Session(record, chosen, engine, arrivals, environ)
    _fail_on_uncaught(session)
    return session


def distribute(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Start a session with all defaults and make model and optimizer data-parallel in it, for loops that need no more.

    An exception that nobody catches ends the job on all ranks. For the rank, the world size or other settings use
    `start`.
    """
    session = start()
    atexit.register(session.close)
    return session.distribute(model.to(session.device.torch_device), optimizer)


def _fail_on_uncaught(session: Session) -> None:
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
        session.failed = True
        fail(error, session.record, session.engine)
        usual(kind, error, trace)

    sys.excepthook = hook


def _with_world_size(record: RankRecord) -> RankRecord:
    """PALS exports no world size: ask MPI."""
    if record.world_size is not None:
        return record
    size = mpi.world_size()
    if size is None:
        found, remedy = mpi.reason_against()
        raise HpcDlError(
            "the number of ranks",
            f"{record.launcher} exports none, and MPI, which would know, cannot be asked: {found}",
            f"export {EXPECTED_WORLD_SIZE} to all ranks (the job scripts do), or {remedy}",
        )
    return replace(record, world_size=size)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    """A variable that is to hold a whole number, None where it is not set."""
    text = environ.get(name, "").strip()
    if text and not text.isdigit():
        raise HpcDlError(f"{name}={text}", "not a whole number", f"correct or unset {name}")
    return int(text) if text else None


def _device(settings: DeviceSettings, record: RankRecord, environ: Mapping[str, str]) -> Device:
    machine = machines.find(environ)
    device = devices.choose(settings.name, record, machine.device_index, environ, settings.ipex)
    device.make_current()
    return device


def _compare(
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
