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
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.data import Dataset

from hpc_dl import comm, devices
from hpc_dl.cluster import machines
from hpc_dl.cluster.rank import RankRecord, detect_rank
from hpc_dl.comm import mpi
from hpc_dl.comm.arrivals import Arrival, compare_places
from hpc_dl.comm.base import Engine
from hpc_dl.comm.failure import fail
from hpc_dl.comm.parts import Distributed, Parts
from hpc_dl.comm.streams import until_any_ends
from hpc_dl.comm.sync_batchnorm import convert
from hpc_dl.comm.wrap import Exchange, wrap
from hpc_dl.data.batch import Placement
from hpc_dl.data.loader import Batches, make_batches
from hpc_dl.devices.base import Device
from hpc_dl.environment import environment
from hpc_dl.settings import DeviceSettings, ExchangeSettings

Item = TypeVar("Item")


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
    _parts: Parts = field(default_factory=Parts)
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
        self._parts.add(model, optimizer, self.exchange)
        self._count_steps(optimizer)
        return model, optimizer

    @property
    def distributed(self) -> list[Distributed]:
        """What was distributed and is still there, in that order."""
        return self._parts.there()

    def distributed_of(self, state: Mapping[str, object]) -> list[Distributed]:
        """What of it is named in a state; all where none is."""
        return self._parts.of(state.values())

    def exchange_of(self, part: nn.Module | torch.optim.Optimizer) -> Exchange:
        """The gradient exchange of a model or optimizer, where several were distributed.

        Raises:
            HpcDlError: It was not.
        """
        return self._parts.exchange_of(part)

    def _count_steps(self, optimizer: torch.optim.Optimizer) -> None:
        """The engine knows the steps of the optimizer that has done most."""
        counter = itertools.count(1)

        def stepped(*_: Any) -> None:
            self.engine.steps = max(self.engine.steps, next(counter))

        optimizer.register_step_post_hook(stepped)

    def sync_batchnorm(self, model: nn.Module) -> nn.Module:
        """The model, with batch normalisations over all ranks' samples; parameters, buffers and their names stay."""
        return convert(model, self.engine)

    def until_any_ends(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The batches of this rank until some rank has none left: for streams of unknown and unequal length.

        All ranks get the same number. What others have left is not used. One batch is read ahead, while its question
        to the others ("do you have one?") travels.
        """
        return until_any_ends(self.engine, batches)

    def loader(
        self,
        dataset: Dataset[Any],
        *,
        global_batch: int,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        workers: int = 0,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> Batches:
        """This rank's batches of a torch data set, on its device; every iteration is an epoch.

        A data set with samples by number gives each sample once in an epoch, in an order that all ranks draw from seed
        and epoch; the last batch may be smaller (`loader.samples` and `loader.global_samples` tell the sizes of the
        latest). A stream is dealt out sample by sample to the ranks and their loader processes, and ends for all when
        one rank has no full batch left.

        Args:
            dataset: Any structure of samples.
            global_batch: Samples of a step over all ranks.
            collate_fn: Makes a batch of a list of samples; by default torch's.
            workers: Loader processes of this rank.
            shuffle, seed, drop_last: Of a data set with samples by number.
        """
        return make_batches(
            dataset,
            global_batch,
            self.rank,
            self.world_size,
            Placement(self.device.torch_device),
            self.until_any_ends,
            collate_fn,
            workers,
            shuffle,
            seed,
            drop_last,
        )

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
    record = mpi.with_world_size(detect_rank(environ))
    engine: Engine | None = None
    try:
        mpi.refuse_foreign_launcher(record.launcher)
        chosen = _device(device, record, environ)
        engine = comm.choose(exchange.engine, record, chosen.name, exchange.host_staging)
        engine.start(record, chosen, environ, exchange.timeout_seconds)
        arrivals = compare_places(record, chosen, engine, environ, device.threads)
    except Exception as error:
        fail(error, record, engine)
        raise
    session = Session(record, chosen, engine, arrivals, environ)
    _fail_on_uncaught(session)
    return session


def distribute(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Start a session with all defaults and make model and optimizer data-parallel in it, for loops that need no more.

    An exception that nobody catches ends the job on all ranks. For the rank or other settings use `start`.
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


def _device(settings: DeviceSettings, record: RankRecord, environ: Mapping[str, str]) -> Device:
    machine = machines.find(environ)
    device = devices.choose(settings.name, record, machine.device_index, environ, settings.ipex)
    device.make_current()
    return device
