# SPDX-License-Identifier: Apache-2.0
"""A session among ranks that a script has brought together by itself, or of a script on one process."""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from hpc_dl import devices
from hpc_dl.cluster.rank import RankRecord, detect_rank
from hpc_dl.cluster.worlds import Place
from hpc_dl.comm.arrivals import Arrival
from hpc_dl.comm.base import Engine
from hpc_dl.comm.guest import GuestEngine
from hpc_dl.comm.single import SingleEngine
from hpc_dl.devices.base import Device
from hpc_dl.devices.binding import observe
from hpc_dl.environment import environment
from hpc_dl.errors import HpcDlError
from hpc_dl.run.follow import Follow
from hpc_dl.session import Session
from hpc_dl.settings import ExchangeSettings

OURS = "hpc_dl.comm.horovod"


def follow(model: nn.Module, optimizer: Optimizer, session: Session | None = None, **options: Any) -> Follow:
    """Follow a loop that stays as it is: `Follow`, of a session, or of a script that brings its ranks together itself.

    Args:
        model: What the loop calls.
        optimizer: Whose step is that of the loop.
        session: Started; by default the ranks are those of torch.distributed or Horovod, as the script has started them
            before, or this process is alone.
        options: Those of `Follow`; `global_batch` has to be given.
    """
    return Follow(session or guest(model), model, optimizer, **options)


def guest(model: nn.Module, environ: Mapping[str, str] | None = None) -> Session:
    """A session of ranks as they are. All of them call it; nothing of the script's is changed.

    Raises:
        HpcDlError: Several ranks were started, and the script has not brought them together.
    """
    environ = environment() if environ is None else environ
    engine, record = _engine(), detect_rank(environ)
    if isinstance(engine, SingleEngine) and record.world_size != 1:
        raise HpcDlError(
            f"following rank {record.rank} of {record.world_size or 'several'}, started by {record.launcher}",
            "the script has initialised neither torch.distributed nor Horovod, so each rank trains for itself",
            "start one process, or let the script bring its ranks together before its first step",
        )
    where = next(iter(model.parameters())).device
    device = devices.choose(where.type, record, lambda local_rank: local_rank, environ)
    device.torch_device = where
    device.why = "the script's"
    engine.start(record, device, environ, ExchangeSettings().timeout_seconds)
    record = replace(record, rank=engine.rank, world_size=engine.world_size)
    session = Session(record, device, engine, _arrivals(record, device, engine), environ)
    _leave_before_the_script(engine, session.close)
    _note_uncaught(session)
    return session


def _note_uncaught(session: Session) -> None:
    """An error that nobody catches leaves the log without an end; the rest is the script's business."""
    usual = sys.excepthook

    def hook(*error: Any) -> None:
        session.failed = True
        usual(*error)

    sys.excepthook = hook


def _engine() -> Engine:
    if dist.is_available() and dist.is_initialized():
        return GuestEngine()
    if "horovod.torch" in sys.modules and (horovod := importlib.import_module(OURS)).is_running():
        engine: Engine = horovod.HorovodGuest()
        return engine
    alone = SingleEngine()
    alone.why = "one process"
    return alone


def _arrivals(record: RankRecord, device: Device, engine: Engine) -> list[Arrival] | None:
    host = record.host or socket.gethostname()
    place = Place(engine.rank, engine.world_size, host, record.local_rank, record.local_world_size, device.identity())
    binding = replace(observe(host, record.local_rank, device), threads=torch.get_num_threads())
    return engine.gather(Arrival(place, binding))


def _leave_before_the_script(engine: Engine, close: Callable[[], None]) -> None:
    """The last words of the log are spoken before the script takes the ranks apart."""
    if isinstance(engine, GuestEngine):
        destroy = dist.destroy_process_group

        def destroy_after(group: Any = None) -> None:
            if group is None:
                close()
                dist.destroy_process_group = destroy
            destroy(group)

        dist.destroy_process_group = destroy_after
    elif not isinstance(engine, SingleEngine):
        importlib.import_module(OURS).before_shutdown(close)
