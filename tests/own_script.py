# SPDX-License-Identifier: Apache-2.0
"""A script of one's own for jobs: own_script.py [--engine E] [--steps N] [--slow] [--batch N] ... WORD...

It keeps the words each rank was given, and trains; with --slow half a second a step until the run has a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

import hpc_dl
from hpc_dl.settings import CheckpointSettings, ExchangeSettings, LogSettings, Settings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--stop-seconds", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    settings = Settings(
        log=LogSettings(window_steps=2, warmup_steps=2),
        checkpoint=CheckpointSettings(stop_margin_seconds=given.stop_seconds),
    )
    with hpc_dl.start(ExchangeSettings(engine=given.engine)) as session:
        model = torch.nn.Linear(4, 1)
        model, optimizer = session.distribute(model, torch.optim.SGD(model.parameters(), 0.1))
        state = {"model": model, "optimizer": optimizer}
        with hpc_dl.Run(session, state, global_batch=given.batch, steps=given.steps, settings=settings) as run:
            Path(run.folder, f"rank{session.rank}.json").write_text(json.dumps([str(Path.cwd()), *sys.argv]))
            slow = given.slow and not Path(run.folder, "checkpoints").exists()
            for _ in run.epochs():
                for batch in run.steps([torch.ones(given.batch // session.world_size, 4)] * given.steps):
                    time.sleep(0.5 if slow else 0)
                    optimizer.zero_grad()
                    loss = model(batch).square().mean()
                    loss.backward()
                    optimizer.step()
                    run.record(loss)


main()
