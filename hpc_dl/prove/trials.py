# SPDX-License-Identifier: Apache-2.0
"""Real trainings of a few steps, each started once, and what they left behind."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpc_dl import arguments
from hpc_dl.cluster import machines
from hpc_dl.comm import ENGINES, horovod_missing
from hpc_dl.errors import HpcDlError, nearest
from hpc_dl.jobs.local import OUTPUT, TIMED_OUT, run_local
from hpc_dl.jobs.payload import training
from hpc_dl.jobs.request import Request
from hpc_dl.prove.trial_settings import Small, trial
from hpc_dl.run.checkpoint import FOLDER, read
from hpc_dl.runlog.records import Run, read_run

SAID = "hpc-dl: "


@dataclass(frozen=True)
class Trial:
    """A training that has ended."""

    name: str
    folder: Path
    ranks: int
    engine: str
    failure: str
    """What it died of; empty where it came to its end."""

    @functools.cached_property
    def log(self) -> Run:
        return read_run(self.folder)

    @functools.cached_property
    def witnesses(self) -> list[dict[str, Any]]:
        """What each rank wrote down (`witness.py`)."""
        paths = (self.folder / f"witness-{rank}.pt" for rank in range(self.ranks))
        return [torch.load(path, map_location="cpu", weights_only=True) for path in paths]

    @property
    def witness(self) -> dict[str, Any]:
        """That of rank 0."""
        return self.witnesses[0]

    def checkpoint(self, step: int) -> Path:
        return self.folder / FOLDER / f"step-{step:08d}.pt"

    def states(self, step: int) -> dict[str, Any]:
        """Of model, optimizer and the like after a step."""
        states: dict[str, Any] = read(self.checkpoint(step))["states"]
        return states

    def parameters(self, step: int) -> dict[str, Tensor]:
        model = self.states(step)["model"]
        return {name: model[name] for name in self.witness["parameters"]}

    @property
    def drawn(self) -> str:
        """What draws random numbers in training, in words; empty for nothing."""
        names = {name for step in self.witness["draws"] for name, _ in step}
        data = self.witness["drawn_by_data"]
        words = [f"model or loss ({', '.join(sorted(names))})"] if names else []
        return " and ".join(words + ([f"the data source ({', '.join(data)})"] if data else []))

    def said(self, beginning: str) -> str:
        """The first message of hpc_dl in its output that begins so, with its remedy; empty for none."""
        return next((message for message in _messages(self.folder) if message.startswith(beginning)), "")


@dataclass
class Trials:
    """Starts what rows ask for, and each but once.

    Args:
        small: Size and settings.
        ranks: Numbers of ranks to prove it for.
        engines: To prove it with.
        folder: Of all trials.
        environ: The process environment.
        minutes: The longest a trial may take.
        say: Hears what is started.
    """

    small: Small
    ranks: Sequence[int]
    engines: Sequence[str]
    folder: Path
    environ: Mapping[str, str]
    minutes: int
    say: Callable[[str], None]
    refused_metrics: str = ""
    """Why there is no evaluation with the user's metrics."""
    _done: dict[str, Trial] = field(default_factory=dict)

    def one(self, plain: bool = False) -> Trial:
        """One process.

        Raises:
            HpcDlError: The training does not even run there.
        """
        alone = self._ended(1, "single", plain)
        if alone.failure and not self.refused_metrics and self.small.settings.task.metrics != []:
            self.refused_metrics, self._done = alone.failure, {}
            alone = self._ended(1, "single", plain)
        if alone.failure:
            raise HpcDlError(
                "a proof",
                f"the training fails on one process: {self.refused_metrics or alone.failure}",
                "mend that first; `hpc-dl train`, or --keep, shows all that it says",
            )
        return alone

    def several(self, ranks: int, engine: str, plain: bool = False) -> Trial:
        """So many ranks."""
        self.one()  # it knows what plain means, and whether the metrics can be computed
        return self._ended(ranks, engine, plain)

    def resumed(self, origin: Trial, step: int, ranks: int, engine: str, plain: bool = False) -> Trial:
        """From a checkpoint of another trial."""
        return self._ended(ranks, engine, plain, origin, step)

    @property
    def draws(self) -> str:
        """What draws in the user's training, on one process."""
        return self.one().drawn

    @property
    def local_batch_norms(self) -> list[str]:
        """Layers that normalise over each rank's own samples."""
        return self.one().witness["batch_norms"] if not self.small.settings.device.sync_batchnorm else []

    @property
    def differs_when_plain(self) -> str:
        """What is left out of a plain trial, in words; empty where it is the training as it is."""
        words = ["with dropout off"] if self.draws else []
        return " and ".join(words + (["with device.sync_batchnorm"] if self.local_batch_norms else []))

    def _ended(self, ranks: int, engine: str, plain: bool, origin: Trial | None = None, step: int = 0) -> Trial:
        plain = plain and bool(self.differs_when_plain)
        name = f"{ranks}-{engine}{'-plain' if plain else ''}{'-no-metrics' if self.refused_metrics else ''}"
        name += f"-from-{origin.name}-step-{step}" if origin else ""
        if name not in self._done:
            self._done[name] = self._run(name, ranks, engine, plain, origin, step)
        return self._done[name]

    def _run(self, name: str, ranks: int, engine: str, plain: bool, origin: Trial | None, step: int) -> Trial:
        folder = (self.folder / name).resolve()
        (folder / FOLDER).mkdir(parents=True)
        if origin:
            shutil.copy(origin.checkpoint(step), folder / FOLDER)
        settings = trial(
            self.small,
            str(folder),
            engine=engine,
            resume=origin is not None,
            metrics=not self.refused_metrics,
            plain=plain and bool(self.draws),
            sync=plain and bool(self.local_batch_norms),
        )
        text, asked = arguments.to_toml(settings), folder / "asked.toml"
        asked.write_text(text, encoding="utf-8")
        payload = training((str(asked),), settings)
        request = Request(payload, nodes=1, ranks_per_node=ranks, minutes=self.minutes, run_folder=str(folder))
        self.say(f"training {name}")
        code = run_local(request, machines.find(self.environ), 1, self.environ)
        return Trial(name, folder, ranks, engine, _failure(folder, code, self.minutes))


def engines_of(names: str) -> list[str]:
    """Those of a list with commas; all that serve processors here where it is empty.

    Raises:
        HpcDlError: One is none that joins ranks.
    """
    for name in (chosen := [name for name in names.split(",") if name]):
        if name not in ENGINES or name == "single":
            known = [engine for engine in ENGINES if engine != "single"]
            raise HpcDlError(f"--engines {name}", "no such engine", nearest(name, known))
    return chosen or ["torch", *([] if horovod_missing("cpu") else ["horovod"])]


def _failure(folder: Path, code: int, minutes: int) -> str:
    if not code:
        return ""
    if code == TIMED_OUT:
        return f"it did not end within {minutes} minutes"
    told = (message for message in _messages(folder) if not message.startswith(("warning", "resumed")))
    return next(told, None) or next(
        (line for line in reversed(_lines(folder)) if line.strip()), f"exit status {code}, without a word"
    )


def _messages(folder: Path) -> Iterator[str]:
    """What hpc_dl itself has said, each with the line of its remedy."""
    lines = _lines(folder)
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith(SAID):
            yield line.removeprefix(SAID) + (f". {after.strip()}" if "What to do" in after else "")


def _lines(folder: Path) -> list[str]:
    """Of a trial's output, without the rank that launchers put before each."""
    text = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
    return [re.sub(r"^(\[\d+\]|\d+:) |\[\d+\] ?$", "", line) for line in text.splitlines()]
