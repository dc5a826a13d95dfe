# SPDX-License-Identifier: Apache-2.0
"""Which runs may stand in one study, and whether it is weak or strong: decided from the runs, refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from hpc_dl.errors import HpcDlError
from hpc_dl.runlog.records import Header, Run
from hpc_dl.scaling.runs import label

Scaling = Literal["weak", "strong", "one size", "unstated"]
"""The last where a table of measurements does not say."""


def _setting(path: str) -> Callable[[Header], Any]:
    def read(header: Header) -> Any:
        value: Any = header.settings
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    return read


def _among_ranks(name: str) -> Callable[[Header], Any]:
    """One rank exchanges nothing: it stands beside any engine."""
    return lambda header: getattr(header, name) if header.world_size > 1 else None


# What has to be the same in all runs of a study; None stands beside anything.
TRAITS: dict[str, Callable[[Header], Any]] = {
    "model": lambda header: header.model,
    "parameters": lambda header: header.parameters,
    "batch rule": lambda header: header.batch_rule,
    "engine": _among_ranks("engine"),
    "backend": _among_ranks("backend"),
    "device": lambda header: header.device,
    "precision": lambda header: header.precision,
    "model options": _setting("task.model_options"),
    "data source": _setting("data.source"),
    "accumulation": _setting("training.accumulation"),
    "optimizer": _setting("optimizer.name"),
    "compression": _setting("exchange.compression"),
    "adasum": _setting("exchange.adasum"),
    "host staging": _setting("exchange.host_staging"),
    "matmul precision": _setting("device.matmul_precision"),
    "channels_last": _setting("device.channels_last"),
    "compile": _setting("device.compile"),
    "ipex": _setting("device.ipex"),
    "sync_batchnorm": _setting("device.sync_batchnorm"),
}


def decide_scaling(runs: Sequence[Run]) -> Scaling:
    """Weak where every run has the same local batch, strong where every run has the same global batch.

    Raises:
        HpcDlError: A run contradicts itself, two runs differ in one of `TRAITS`, a size was run in two layouts,
            or the batches follow neither rule. The message names the runs.
    """
    for run in runs:
        _check_labels(run)
        _check_layout(run)
    for trait, value_of in TRAITS.items():
        _check_same(trait, [(run, value_of(run.header)) for run in runs])
    for world_size in {run.header.world_size for run in runs}:
        same_size = [run for run in runs if run.header.world_size == world_size]
        _check_same(f"layout of {world_size} ranks", [(run, f"{run.header.nodes} nodes") for run in same_size])
    return _rule(runs)


def name_some(names: Sequence[str], most: int = 6) -> str:
    """A listing that stays short."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _rule(runs: Sequence[Run]) -> Scaling:
    if len({run.header.local_batch for run in runs}) == 1:
        return "weak" if len({run.header.world_size for run in runs}) > 1 else "one size"
    if len({run.header.global_batch for run in runs}) == 1:
        return "strong"
    heads = [(label(run), run.header) for run in runs]
    batches = name_some(
        [f"{name}: {h.world_size} ranks, local {h.local_batch}, global {h.global_batch}" for name, h in heads]
    )
    raise HpcDlError(
        "report of a ragged set of runs",
        f"neither the local nor the global batch is the same in all of them ({batches})",
        "report runs of one local batch (weak scaling) or of one global batch (strong scaling)",
    )


def _check_same(trait: str, values: Sequence[tuple[Run, Any]]) -> None:
    groups: dict[str, list[str]] = {}
    for run, value in values:
        if value is not None:
            groups.setdefault(str(value), []).append(label(run))
    if len(groups) > 1:
        found = "; ".join(f"{value}: {name_some(names)}" for value, names in groups.items())
        raise HpcDlError(f"report of runs that differ in {trait}", found, "report each of these groups on its own")


def _check_labels(run: Run) -> None:
    """The header's batch sizes against each other and against the samples the windows counted."""
    header = run.header
    if abs(header.global_batch - header.local_batch * header.world_size) >= header.world_size:
        _mislabelled(run, f"{header.world_size} ranks of {header.local_batch} samples are not {header.global_batch}")
    counted = max(window.samples / window.steps for window in run.steady)
    if not 0.5 * header.global_batch <= counted <= header.global_batch * (1 + 1e-9):
        _mislabelled(
            run, f"its header says {header.global_batch} samples a step, its windows count at most {counted:g}"
        )


def _mislabelled(run: Run, found: str) -> None:
    raise HpcDlError(f"run {label(run)}, which is mislabelled", found, "leave this run out")


def _check_layout(run: Run) -> None:
    smallest, largest = run.header.ranks_per_node
    if smallest != largest:
        raise HpcDlError(
            f"run {label(run)}, whose layout is ragged",
            f"its nodes have {smallest} to {largest} ranks each",
            "leave it out, or repeat it with the same number of ranks on every node",
        )
