# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to a file of weights for anyone: safetensors, which needs no hpc_dl, no pickle and no training."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpc_dl.errors import HpcDlError, nearest
from hpc_dl.export.files import library
from hpc_dl.run.checkpoint import FOLDER, Checkpoints, DamagedError, Position, read
from hpc_dl.runlog.records import LOG_NAME, Header, read_parts


@dataclass(frozen=True)
class Found:
    """A checkpoint, and the file it was read from."""

    path: Path
    position: Position
    states: Mapping[str, Mapping[str, Any]]


def find(place: Path) -> Found:
    """The newest whole checkpoint of a run folder (or of its folder of checkpoints), or the file named.

    Nothing is changed there: the run may still go on. Damaged files are named on stderr.
    """
    if place.is_file():
        return _found(place, read(place))
    run_folder = place.resolve().parent if place.resolve().name == FOLDER else place
    paths = Checkpoints(run_folder, keep=1).paths()
    for path in reversed(paths):
        try:
            return _found(path, read(path))
        except DamagedError as error:
            print(f"hpc-dl: {error}", file=sys.stderr)
    found = "all its checkpoints are damaged" if paths else "no checkpoint in it" if place.exists() else "no such place"
    raise HpcDlError(f"checkpoint of {place}", found, "name the folder of a run that wrote one, or a file of it")


def _found(path: Path, content: Mapping[str, Any]) -> Found:
    states = {name: state for name, state in content["states"].items() if isinstance(state, Mapping)}
    return Found(path, Position(**content["position"]), states)


def tensors_in(state: Any) -> Iterator[Tensor]:
    """All tensors in nested dictionaries and lists."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for inner in state.values() if isinstance(state, Mapping) else state:
            yield from tensors_in(inner)


def header_of(found: Found) -> Header | None:
    """The header of the job that wrote the checkpoint: the last one with a step before it. None without a log."""
    folder = found.path.resolve().parent
    log = folder.parent / LOG_NAME
    parts = read_parts(log)[0] if folder.name == FOLDER and log.is_file() else ()
    wrote = [part.header for part in parts if any(w.first_step < found.position.step for w in part.windows)]
    return wrote[-1] if wrote else None


def facts(found: Found, state: str) -> dict[str, str]:
    """Where weights come from, as far as it is known: the metadata of their file."""
    given = {"format": "pt", "state": state}  # "pt" is what readers of safetensors look for
    given |= {name: str(getattr(found.position, name)) for name in ("step", "epoch", "samples")}
    header = header_of(found)
    if header is None:
        return given
    options = header.settings.get("task", {}).get("model_options")
    known = {
        "run": header.run_id,
        "model": header.model,
        "model_options": json.dumps(options) if options else "",
        "hpc_dl": header.versions.get("hpc_dl", ""),
        "git_revision": header.git_revision,
    }
    return given | {name: value for name, value in known.items() if value}


def write(found: Found, state: str, output: Path) -> list[str]:
    """Write one of the states; the names that shared memory with another, each of which is now written out.

    Raises:
        HpcDlError: There is no such state, it holds what safetensors cannot, or the file cannot be written.
    """
    asked = f"export of {state} from {found.path}"
    safetensors = library("safetensors.torch", "safetensors", asked)
    if state not in found.states:
        raise HpcDlError(asked, "it has no such state", nearest(state, found.states))
    _refuse_other_values(found.states[state], asked)
    tensors, shared = _apart(found.states[state])
    beside = output.with_name(output.name + ".part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        safetensors.save_file(tensors, beside, facts(found, state))
        beside.replace(output)
    except Exception as error:  # of the types of a file system, and of safetensors' own
        if beside.is_file():
            beside.unlink()
        raise HpcDlError(
            asked, f"{output} cannot be written ({error})", "make room, or name another --output"
        ) from error
    return shared


def _refuse_other_values(state: Mapping[str, Any], asked: str) -> None:
    """safetensors holds named dense tensors and nothing else."""
    others = [f"{name} ({why})" for name, value in state.items() if (why := _why_not(value))]
    if others:
        rest = f" and {len(others) - 5:,} more" if len(others) > 5 else ""
        raise HpcDlError(
            asked,
            f"safetensors cannot hold {', '.join(others[:5])}{rest}",
            "export another state, or take it from the checkpoint itself: torch.load(FILE, weights_only=True)",
        )


def _why_not(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}, no tensor"
    if value.layout != torch.strided:
        return "a sparse tensor"
    known = value.dtype != torch.complex128 and not value.is_quantized
    return "" if known else str(value.dtype).removeprefix("torch.")


def _apart(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Contiguous tensors of which no two share memory, and the names of those that did."""
    tensors: dict[str, Tensor] = {}
    shared: list[str] = []
    owners: set[int] = set()
    for name, tensor in state.items():
        storage = tensor.untyped_storage().data_ptr()
        if storage in owners and tensor.numel():
            shared.append(name)
            tensor = tensor.clone()
        owners.add(storage)
        tensors[name] = tensor.contiguous()
    return tensors, shared
