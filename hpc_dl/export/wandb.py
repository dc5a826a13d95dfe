# SPDX-License-Identifier: Apache-2.0
"""To Weights & Biases: an offline run in a folder, which `wandb sync` uploads from where there is a network.

Nothing is sent. The folder is written anew each time, so upload it when the job has ended.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from hpc_dl.export.files import library
from hpc_dl.export.results import Results

PROJECT = "hpc_dl"


def write(results: Results, output: str) -> str:
    """wandb/offline-run-*-KEY in the folder `output`."""
    wandb = library("wandb", "wandb", "export --to wandb")
    folder = Path(output or "export/wandb")
    folder.mkdir(parents=True, exist_ok=True)  # else wandb takes another
    for earlier in (folder / "wandb").glob(f"offline-run-*-{results.key}*"):
        shutil.rmtree(earlier)
    # What wandb would say of this machine is not of the run's.
    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True)
    run = wandb.init(
        project=PROJECT,
        id=results.key,
        name=results.name,
        config=dict(results.facts),
        dir=str(folder),
        mode="offline",
        settings=settings,
    )
    for step, scalars in results.at_steps():
        values = {scalar.name: scalar.value for scalar in scalars}
        run.log({**values, "unix_seconds": scalars[-1].unix_seconds}, step=step)
    run.finish()
    return f"{run.settings.sync_dir} (upload: wandb sync {run.settings.sync_dir})"
