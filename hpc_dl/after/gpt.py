# SPDX-License-Identifier: Apache-2.0
"""Text from a trained byte model: at the end of its run, or later from its checkpoint.

python -m hpc_dl.after.gpt RUN_FOLDER "def main(" --bytes 400 --temperature 0.8
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Protocol

import torch

from hpc_dl.arguments import read_toml
from hpc_dl.errors import HpcDlError
from hpc_dl.models.gpt import Gpt, generate
from hpc_dl.run.checkpoint import read

FILE = "sample.txt"
PROMPT = "def "


class Ranks(Protocol):
    """What is needed of a session."""

    @property
    def rank(self) -> int: ...


def write_sample(model: Gpt, session: Ranks, run_folder: Path) -> None:
    """Write sample.txt: 400 bytes the model thinks likely."""
    if session.rank == 0:
        (run_folder / FILE).write_text(sample(model.cpu(), PROMPT, 400, 0.8, seed=0), encoding="utf-8")
        print(f"sample: {run_folder / FILE}", flush=True)


def sample(model: Gpt, prompt: str, count: int, temperature: float, seed: int) -> str:
    """The prompt, continued by `count` bytes; bytes that are no text become question marks."""
    torch.manual_seed(seed)
    tokens = torch.tensor([list(prompt.encode())])
    return bytes(generate(model.eval(), tokens, count, temperature)[0].tolist()).decode("utf-8", "replace")


def from_checkpoint(run_folder: Path) -> Gpt:
    """The model of a run folder as its newest checkpoint has it.

    Raises:
        HpcDlError: The folder holds no run of a Gpt, or no checkpoint.
    """
    settings = read_toml(run_folder / "settings.toml")
    task = settings.get("task", {})
    if task.get("model") != "hpc_dl.models.gpt:Gpt":
        raise HpcDlError(f"run {run_folder}", f"its model is {task.get('model')}", "name the run of a Gpt")
    paths = sorted((run_folder / "checkpoints").glob("step-*.pt"))
    if not paths:
        raise HpcDlError(f"run {run_folder}", "no checkpoint in it", "train it with --checkpoint.at_end true")
    model = Gpt(**task.get("model_options", {}))
    model.load_state_dict(read(paths[-1])["states"]["model"])
    return model


def main(words: list[str] | None = None) -> int:
    """Print what a trained model makes of a prompt."""
    parser = argparse.ArgumentParser(prog="python -m hpc_dl.after.gpt", description=__doc__.splitlines()[0])
    parser.add_argument("run_folder", type=Path, help="a folder that `hpc-dl train gpt` wrote")
    parser.add_argument("prompt", nargs="?", default=PROMPT, help="how the text begins")
    parser.add_argument("--bytes", type=int, default=400, help="how many bytes to add")
    parser.add_argument("--temperature", type=float, default=0.8, help="below 1: likelier text; above: wilder")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another text")
    given = parser.parse_args(words)
    try:
        print(sample(from_checkpoint(given.run_folder), given.prompt, given.bytes, given.temperature, given.seed))
    except HpcDlError as error:
        print(f"hpc_dl.after.gpt: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
