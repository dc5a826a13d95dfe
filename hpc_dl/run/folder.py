# SPDX-License-Identifier: Apache-2.0
"""A run's folder, and what is begun in it: the log, and a sign of life on the screen."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from torch import nn
from torch.nn import Parameter

from hpc_dl import arguments
from hpc_dl.cluster import machines
from hpc_dl.cluster.variables import RUN_FOLDER
from hpc_dl.devices.binding_report import judge
from hpc_dl.errors import HpcDlError
from hpc_dl.run import progress
from hpc_dl.run.header import make_header
from hpc_dl.runlog.records import LOG_NAME
from hpc_dl.runlog.sinks import LogWriter, Sink
from hpc_dl.session import Session
from hpc_dl.settings import Settings


def run_folder(settings: Settings, session: Session) -> Path:
    """The folder of this run, the same on all ranks.

    Raises:
        HpcDlError: Something is to be resumed and no folder is named, or the folder holds another run's log.
    """
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    given = settings.log.folder or session.environ.get(RUN_FOLDER)
    if settings.checkpoint.resume != "never" and not given:
        raise HpcDlError(
            f"checkpoint.resume = {settings.checkpoint.resume!r}",
            "no run folder is named, and a new one holds nothing to resume from",
            "name the folder with --log.folder",
        )
    folder = Path(given or f"runs/{settings.name}-{session.world_size}ranks-{stamp}")
    folder = Path(session.engine.broadcast(str(folder)))
    if session.rank == 0 and (folder / LOG_NAME).exists() and settings.checkpoint.resume == "never":
        raise HpcDlError(
            f"run folder {folder}",
            "it holds the log of another run",
            "name another log.folder, or continue that run with --checkpoint.resume auto",
        )
    return folder


def open_sinks(
    settings: Settings,
    session: Session,
    folder: Path,
    parameters: Iterable[Parameter],
    epoch_samples: int,
    total_steps: int,
    exchanged_by: str = "hpc_dl",
) -> list[Sink]:
    """On rank 0: the settings beside the log, the log and the screen, both with the header.

    Args:
        settings: Of the run.
        session: Knows the ranks.
        folder: The run's.
        parameters: Of all models.
        epoch_samples: Training samples of an epoch, 0 where nobody knows.
        total_steps: Of the run, 0 where nobody knows.
        exchanged_by: Who averages the gradients.
    """
    if session.rank != 0 or session.arrivals is None:
        return []
    log = LogWriter(folder)
    (folder / "settings.toml").write_text(arguments.to_toml(settings), encoding="utf-8")
    bindings = [arrival.binding for arrival in session.arrivals]
    binding = judge(bindings, machines.find(session.environ), session.environ)
    header = make_header(
        run_id=folder.name,
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        settings=settings,
        parameters=parameters,
        record=session.record,
        places=[arrival.place for arrival in session.arrivals],
        engine=session.engine,
        device=session.device,
        environ=session.environ,
        binding=binding.record(),
        epoch_samples=epoch_samples,
        exchanged_by=exchanged_by,
    )
    log.write(header)
    print(
        f"{header.name}: {header.parameters:,} parameters, {header.world_size} ranks on {header.nodes} nodes "
        f"({header.launcher}), global batch {header.global_batch}\n"
        f"engine {header.engine} over {header.backend} ({header.engine_why})\n"
        f"device {header.device} ({header.device_why})\n"
        f"{binding.text()}",
        flush=True,
    )
    shown = progress.choose(settings.log.progress, total_steps)
    return [log] if shown is None else [log, shown]


def completed(
    settings: Settings,
    session: Session,
    module: nn.Module,
    global_batch: int,
    epochs: int | None,
    steps: int | None,
    folder: str | Path | None,
    resume: Literal["auto", "must", "never"],
) -> Settings:
    """The settings with what the loop says itself, as the log's header has them."""
    model = type(module)
    training = replace(settings.training, global_batch=global_batch, local_batch=None, epochs=epochs or 1, steps=steps)
    log = settings.log if folder is None else replace(settings.log, folder=str(folder))
    named = log.folder or session.environ.get(RUN_FOLDER)
    checkpoint = replace(settings.checkpoint, resume="never" if resume == "auto" and not named else resume)
    task = replace(settings.task, model=f"{model.__module__}:{model.__qualname__}", metrics=[])
    name = Path(sys.argv[0]).stem if settings.name == Settings().name else settings.name
    name = name or settings.name  # the words of `python -c` have no name
    return replace(settings, name=name, training=training, log=log, checkpoint=checkpoint, task=task)
