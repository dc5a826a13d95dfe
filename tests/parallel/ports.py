# SPDX-License-Identifier: Apache-2.0
"""Runs all of examples/ports one after the other, in float64: own loops, the Trainer, and on one process the originals.

mpiexec -n 2 python -m tests.parallel.ports ENGINE FOLDER
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import torch

import hpc_dl
from hpc_dl.commands.train import read_settings
from hpc_dl.environment import environment
from hpc_dl.settings import DeviceSettings, ExchangeSettings
from hpc_dl.train import train

PORTS = Path(__file__).parents[2] / "examples" / "ports"
NAMES = sorted(path.stem for path in (PORTS / "before").glob("*.py"))
TRAINED = sorted(path.stem for path in PORTS.glob("*.toml"))


def main() -> None:
    engine, folder = sys.argv[1:]
    torch.set_default_dtype(torch.float64)
    sys.path.insert(0, str(PORTS))  # as PYTHONPATH=examples/ports does
    os.chdir(folder)
    if engine == "single":
        for name in NAMES:
            original = import_module(f"examples.ports.before.{name}").main()
            torch.save(original.state_dict(), f"{name}.before")
    for name in NAMES:
        with hpc_dl.start(ExchangeSettings(engine=engine), DeviceSettings(name="cpu", threads=1)) as session:  # type: ignore[arg-type]
            model = import_module(name).main(session)
            torch.save(model.state_dict(), f"{name}.loop-{session.rank}")
    options = f"--exchange.engine {engine} --device.name cpu --device.threads 1 --device.precision fp64".split()
    for name in TRAINED:
        flags = [*options, "--log.folder", f"trained/{name}"]
        train(read_settings(str(PORTS / f"{name}.toml"), flags), environment())


if __name__ == "__main__":
    main()
