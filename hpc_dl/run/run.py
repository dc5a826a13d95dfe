# SPDX-License-Identifier: Apache-2.0
"""A run of your own loop: it steps and evaluates; the run logs, writes checkpoints, resumes, and stops in time.

with hpc_dl.start() as session:
    model, optimizer = session.distribute(model, optimizer)
    state = {"model": model, "optimizer": optimizer}
    with hpc_dl.Run(session, state, global_batch=128, epochs=20, folder="runs/mine") as run:
        for epoch in run.epochs():
            for batch in run.steps(loader):
                ...
                run.record(loss)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from hpc_dl.comm import compare
from hpc_dl.errors import HpcDlError
from hpc_dl.run.folder import completed, run_folder
from hpc_dl.run.loop import Loop
from hpc_dl.run.resume import BATCH, Course
from hpc_dl.run.states import Stateful
from hpc_dl.run.telling import Telling
from hpc_dl.session import Session
from hpc_dl.settings import Settings


class Run(Telling, Loop):
    """What a loop needs besides its steps. All ranks make one, after all models are distributed.

    Args:
        session: Started; its distributed models and optimizers are timed.
        state: What a checkpoint holds, by name. The same on all ranks: rank 0 writes it, all ranks load it.
        global_batch: Samples of a step over all ranks.
        epochs: Where the run ends; None where the loop or `steps` says so.
        steps: Where the run ends at the latest.
        steps_per_epoch: Where it is known, as `len(loader)`, the progress bar and `total_steps` know the end.
        folder: Of the log and the checkpoints; by default the one that the job names, else a new one in runs/.
        resume: auto goes on from the newest whole checkpoint of the folder where there is one, must insists, never
            refuses a folder in which another run has written.
        settings: `log`, `checkpoint`, `name` and `training.seed`. Random numbers are seeded before each step from the
            seed, the rank and the step, so that a resumed run draws those that an unbroken one does.

    Raises:
        HpcDlError: Nothing was distributed; settings differ between ranks; the newest checkpoint cannot be used.
    """

    def __init__(
        self,
        session: Session,
        state: Mapping[str, Stateful],
        *,
        global_batch: int,
        epochs: int | None = None,
        steps: int | None = None,
        steps_per_epoch: int | None = None,
        folder: str | Path | None = None,
        resume: Literal["auto", "must", "never"] = "auto",
        settings: Settings | None = None,
    ) -> None:
        if not session.distributed:
            raise HpcDlError("Run", "no model is distributed", "call session.distribute(model, optimizer) before")
        model = session.distributed_of(state)[0].model
        settings = completed(settings or Settings(), session, model, global_batch, epochs, steps, folder, resume)
        compare.settings(session.engine, settings)
        course = Course({BATCH: global_batch}, global_batch, steps_per_epoch)
        super().__init__(session, state, settings, run_folder(settings, session), course, epochs, steps)

    def __enter__(self) -> Run:
        super().__enter__()
        return self
