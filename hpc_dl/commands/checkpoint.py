# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl checkpoint show|export`: what a checkpoint holds, and its model as a file of weights."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the verb says."""
    options = _parser().parse_args(arguments)
    print(options.run(options))
    return 0


def _show(options: argparse.Namespace) -> str:
    from hpc_dl.run import weights_file

    found = weights_file.find(options.place)
    rows = [("state", "tensors", "numbers", "MB", "types"), *(_row(*item) for item in found.states.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    known = {name: value for name, value in weights_file.facts(found, "").items() if name not in ("format", "state")}
    longest = max(map(len, known))
    lines = [str(found.path), *(f"{name:<{longest}}  {value}" for name, value in known.items()), ""]
    for name, *numbers, types in rows:
        cells = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=False))
        lines.append("  ".join([name.ljust(widths[0]), *cells, types]).rstrip())
    return "\n".join(lines)


def _row(name: str, state: Mapping[str, Any]) -> tuple[str, ...]:
    from hpc_dl.run.weights_file import tensors_in

    tensors = list(tensors_in(state))
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    types = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))
    return (
        name,
        f"{len(tensors):,}",
        f"{sum(tensor.numel() for tensor in tensors):,}",
        f"{size_bytes / 1e6:,.1f}",
        types,
    )


def _export(options: argparse.Namespace) -> str:
    from hpc_dl.run import weights_file

    found = weights_file.find(options.place)
    output = options.output or Path(f"{options.state}.safetensors")
    shared = weights_file.write(found, options.state, output)
    text = f"{options.state} of {found.path} (step {found.position.step:,}) written to {output}"
    return text + (f"\nwritten out, though they shared memory with others: {', '.join(shared)}" if shared else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hpc-dl checkpoint", description="Checkpoints of a run.")
    verbs = parser.add_subparsers(required=True, metavar="show|export")
    show = verbs.add_parser("show", help="where it is in the run, and what it holds")
    show.set_defaults(run=_show)
    export = verbs.add_parser("export", help="write its model, without the optimizer, as safetensors")
    export.set_defaults(run=_export)
    for verb in (show, export):
        verb.add_argument("place", type=Path, metavar="PATH", help="run folder (its newest whole one), or a checkpoint")
    export.add_argument("--output", type=Path, metavar="FILE", help="default: model.safetensors")
    export.add_argument("--state", default="model", metavar="NAME", help="which of its states (default: model)")
    return parser
