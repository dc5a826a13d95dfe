# SPDX-License-Identifier: Apache-2.0
"""What each rank of a job runs: a training of `hpc-dl train`, or any command; and what is known of it before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpc_dl import arguments
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.words import Variable, Word
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
    check: tuple[Word, ...] = ("check_python",)
    """Command of launch/job.sh that sees whether the job has what the ranks need."""
    engine: str = ""
    """The engine it asks for, where that is known."""
    settings: Settings | None = None
    """All of them, where it is a training and they were read."""
    paths: tuple[str, ...] = ()
    """Files that must be there, relative to where the ranks start."""
    placeholders: tuple[str, ...] = ()
    """Numbers of the job that its words may stand for, in braces."""

    @property
    def files(self) -> dict[str, str]:
        """What is kept in the run's folder, text by name."""
        return {} if self.settings is None else {"settings.toml": arguments.to_toml(self.settings)}

    @property
    def imports(self) -> dict[str, str]:
        """Import paths the user named, by the setting that has them."""
        if self.settings is None:
            return {}
        task = self.settings.task
        paths = {
            "task.model": task.model,
            "task.objective": task.objective,
            "task.loss": "" if task.objective else task.loss,
            "task.on_finish": task.on_finish,
            "data.source": self.settings.data.source,
            "schedule.name": self.settings.schedule.name,
            "optimizer.name": self.settings.optimizer.name,
        }
        return {setting: path for setting, path in paths.items() if ":" in path}

    def sized(self, nodes: int, world_size: int) -> Payload:
        """With the numbers of a job in place of what stands for them."""
        numbers = {"nodes": nodes, "world_size": world_size}
        values = {f"{{{name}}}": str(numbers[name]) for name in self.placeholders}

        def fill(texts: Iterable[str]) -> tuple[str, ...]:
            return tuple(re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], t) for t in texts)

        return replace(self, words=fill(self.words), paths=fill(self.paths)) if values else self


def training(words: Sequence[str], settings: Settings | None = None) -> Payload:
    """What stands after `hpc-dl train`: a recipe or TOML file, and flags."""
    return Payload(
        words=tuple(words),
        name=Path(words[0]).stem,
        resumes=settings is not None and settings.checkpoint.resume != "never",
        engine=_flag(words, "--exchange.engine"),
        settings=settings,
    )


def own(words: Sequence[str]) -> Payload:
    """A command of the user's own, word by word: a script behind its interpreter, or any program.

    Raises:
        HpcDlError: The first word is no program.
    """
    first = words[0] if words else ""
    asked, example = f"-- {' '.join(words)}".rstrip(), "-- python train.py"
    if not first:
        raise HpcDlError(asked, "it does not say what to run", f"add the command: {example}")
    if first.startswith("-"):
        raise HpcDlError(asked, f"{first} is an option, not a program", f"begin with the program: {example}")
    if re.match(r"[A-Za-z_]\w*=", first):
        raise HpcDlError(asked, f"{first} is a variable, not a program", f"put env in front: -- env {first} ...")
    script = _script(words)
    return Payload(
        words=tuple(words),
        name=Path(script or first).stem,
        program=(),
        resume=(),
        resumes=True,
        check=("check_program", Variable("train[0]")),
        paths=tuple(path for path in (first if "/" in first else "", script) if path),
        placeholders=("nodes", "world_size"),
    )


def _script(words: Sequence[str]) -> str:
    """The file that Python is to run; empty where it runs none, or something else does.

    >>> _script(["python3", "-u", "-W", "error", "a.py", "b.py"]), _script(["python", "-um", "a"]), _script(["./a"])
    ('a.py', '', '')
    """
    rest = iter(words[1:] if re.fullmatch(r"python[\d.]*", Path(words[0]).name) else ())
    for word in rest:
        if not word.startswith("-"):
            return word
        if word == "-" or re.match(r"-[A-Za-z]*[cm]", word):
            break
        if re.fullmatch(r"-[A-Za-z]*[WX]|--check-hash-based-pycs", word):
            next(rest, None)
    return ""


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
