# SPDX-License-Identifier: Apache-2.0
"""What each rank of a job runs, and what is known of it before it does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_dl import arguments
from hpc_dl.settings import Settings


@dataclass(frozen=True)
class Payload:
    """The command of every rank. As it stands by itself, a training that is named when the script is submitted."""

    words: tuple[str, ...] = ()
    """The user's. Empty: they come from the command line of sbatch, or HPC_DL_TRAIN under PBS."""
    name: str = ""
    """Jobs and folders are named after it."""
    program: tuple[str, ...] = ("python", "-m", "hpc_dl.cli", "train")
    """In front of the user's words."""
    resume: tuple[str, ...] = ("--checkpoint.resume", "auto")
    """Behind them where the job goes on from a checkpoint."""
    resumes: bool = False
    """Does it go on by itself with the run that its folder holds?"""
    check: tuple[str, ...] = ("check_python",)
    """Command of launch/job.sh that sees whether the job has what the ranks need."""
    engine: str = ""
    """The engine it asks for, where that is known."""
    settings: Settings | None = None
    """All of them, where it is a training and they were read."""

    @property
    def files(self) -> dict[str, str]:
        """What is kept in the run's folder, text by name."""
        return {} if self.settings is None else {"settings.toml": arguments.to_toml(self.settings)}

    @property
    def imports(self) -> dict[str, str]:
        """Import paths the user named, by the setting that has them."""
        if self.settings is None:
            return {}
        task, data = self.settings.task, self.settings.data
        paths = {"task.model": task.model, "task.loss": task.loss, "data.source": data.source, "task.after": task.after}
        return {setting: path for setting, path in paths.items() if ":" in path}


def training(words: Sequence[str], settings: Settings | None = None) -> Payload:
    """What stands after `hpc-dl train`: a recipe or TOML file, and flags."""
    return Payload(
        words=tuple(words),
        name=Path(words[0]).stem,
        resumes=settings is not None and settings.checkpoint.resume != "never",
        engine=_flag(words, "--exchange.engine"),
        settings=settings,
    )


def _flag(words: Iterable[str], name: str) -> str:
    """The last value of a flag among the words of a training."""
    value, following = "", False
    for word in words:
        if following:
            value, following = word, False
        elif word == name:
            following = True
        elif word.startswith(f"{name}="):
            value = word.partition("=")[2]
    return value
