# SPDX-License-Identifier: Apache-2.0
"""Published series as cases for the model: from a baseline to one further size, in seconds, bytes and ranks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.published.hardware import Hardware, hardware, parameters
from benchmarks.published.table import Point, Series, Table, known

TYPICAL_STEP_SECONDS = 0.2
"""Step of one rank where no local batch is stated: the middle of the vision rows that state one."""
TYPICAL_TOKENS = 4096
"""Tokens of one rank and step where no sequence length is stated."""
TYPICAL_PARAMETERS = 50e6
"""Parameters of a model that no table knows."""
NOT_DATA_PARALLEL = r"\bTP\d*\b|tensor.parallel|model.parallel|pipeline.parallel|3D parallel|\bhybrid\b|SWiPe"


@dataclass(frozen=True)
class Setting:
    """A case at one of its two sizes."""

    ranks: int
    nodes: int
    local_batch_ratio: float
    """Local batch over that at the baseline: 1 in weak scaling."""
    accumulation: float
    """Micro-steps per exchange."""


@dataclass(frozen=True)
class Case:
    """One efficiency to predict: `target` against `base`."""

    series: str
    group: str
    hardware: Hardware
    base: Setting
    target: Setting
    step_seconds: float
    """One micro-step of one rank at the baseline, as published (communication included)."""
    wire_bytes: float
    """Bytes whose sum over ranks the step needs, in units of one allreduce."""
    parameter_server: bool
    """Every rank exchanges with servers, no sum within a node."""
    efficiency: float
    """As published, relative to the baseline."""
    assumed: tuple[str, ...]
    """What the row does not state and was filled in."""


@dataclass(frozen=True)
class Cases:
    """All cases of a table and the rows that gave none, each with its reason."""

    cases: tuple[Case, ...]
    excluded: Mapping[str, str]


def build(table: Table) -> Cases:
    """Every series of the table as cases, or the reason why not."""
    systems = {**known("systems"), **table.systems}
    models = {**known("models"), **table.models}
    cases: list[Case] = []
    excluded = dict.fromkeys(table.pointless, "no points that can be read")
    for series in table.series:
        found = hardware(series.system, series.software, systems)
        if found is None:
            excluded[series.name] = f"system {series.system!r} is in no table of systems"
        elif re.search(NOT_DATA_PARALLEL, f"{series.software} {series.model}", re.IGNORECASE):
            excluded[series.name] = f"not data-parallel alone: {series.software}"
        else:
            new = list(_cases(series, found, parameters(series.model, models), table))
            cases += new
            if not new:
                excluded[series.name] = "one point and no efficiency: a baseline, nothing to test"
    return Cases(tuple(cases), excluded)


def _cases(series: Series, found: Hardware, count: float | None, table: Table) -> Iterator[Case]:
    first = series.points[0]
    alone = first.efficiency is not None and (len(series.points) == 1 or first.efficiency != 1.0)
    base = Point(1, None, 1.0) if alone else first
    step, assumed = _step_seconds(series, base, found, table)
    if count is None:
        assumed = (*assumed, "parameters")
    for point in series.points if alone else series.points[1:]:
        published = _efficiency(series, base, point)
        if published is None or point.size == base.size:
            continue
        yield Case(
            series=series.name,
            group=series.group,
            hardware=found,
            base=_setting(series, base.size, found),
            target=_setting(series, point.size, found),
            step_seconds=step,
            wire_bytes=_wire_bytes(series, count or TYPICAL_PARAMETERS),
            parameter_server="parameter server" in series.software and "replicated" not in series.software,
            efficiency=published,
            assumed=assumed,
        )


def _efficiency(series: Series, base: Point, point: Point) -> float | None:
    """From the rates where both are there (percentages are rounded), else as published."""
    if not point.rate or not base.rate:
        return point.efficiency or None
    if per_rank(series.unit):
        return point.rate / base.rate
    return point.rate / point.size / (base.rate / base.size)


def per_rank(unit: str) -> bool:
    """Whether a unit is a rate of one rank ("tok/s/GPU") and not of all together."""
    return bool(re.search(r"/(GPU|tile|GCD|rank|core|device)s?$", unit, re.IGNORECASE))


def _counts_nodes(series: Series) -> bool:
    return "(nodes)" in series.system


def _ranks(series: Series, size: int, found: Hardware) -> int:
    return size * found.per_node if _counts_nodes(series) else size


def _setting(series: Series, size: int, found: Hardware) -> Setting:
    ranks = _ranks(series, size, found)
    return Setting(
        ranks=ranks,
        nodes=math.ceil(ranks / found.per_node),
        local_batch_ratio=_along(series, size, r"(\d+)\s*->\s*(\d+)"),
        accumulation=_accumulation(series, size),
    )


def _along(series: Series, size: int, pattern: str) -> float:
    """A quantity printed for the smallest and largest size ("208 -> 52"), in between by logarithms."""
    match = re.search(pattern, series.condition)
    if match is None:
        return 1.0
    low, high = float(match.group(1)), float(match.group(2))
    smallest, largest = series.points[0].size, series.points[-1].size
    if largest == smallest:
        return 1.0
    share = math.log(size / smallest) / math.log(largest / smallest)
    return float((high / low) ** share)


def _accumulation(series: Series, size: int) -> float:
    """Micro-steps per exchange: "accum 32/16/4/1" by point, "accum 32..1" or unstated by the size."""
    if "accum" not in series.condition:
        return 1.0
    sizes = [point.size for point in series.points]
    if (listed := re.search(r"accum ((?:\d+/)+\d+)", series.condition)) and size in sizes:
        values = [float(value) for value in listed.group(1).split("/")]
        if len(values) == len(sizes):
            return values[sizes.index(size)]
    ends = re.search(r"accum (\d+)\.\.(\d+)", series.condition)
    last = float(ends.group(2)) if ends else 1.0
    # The global batch is fixed: micro-steps fall as ranks grow.
    return last * sizes[-1] / size


def _step_seconds(series: Series, base: Point, found: Hardware, table: Table) -> tuple[float, tuple[str, ...]]:
    """Seconds of one micro-step of one rank at the baseline, and what had to be assumed for it."""
    rate = base.rate if base.rate is not None else _rate_alone(series, table)
    fields = [part.strip() for part in series.condition.split(";")]
    batch = re.match(r"(\d+)", fields[1]) if len(fields) > 1 else None
    if rate is None or (not series.unit and base.rate is not None):
        return TYPICAL_STEP_SECONDS, ("step time",)
    one = rate if per_rank(series.unit) else rate / _ranks(series, base.size, found)
    if "tok" in series.unit:
        length = re.search(r"seq (\d+)", f"{series.condition} {series.model}")
        tokens = float(batch.group(1)) * float(length.group(1)) if batch and length else TYPICAL_TOKENS
        return tokens / one, () if batch and length else ("tokens per step",)
    if batch is None:
        return TYPICAL_STEP_SECONDS, ("local batch",)
    return float(batch.group(1)) / one, ()


def _rate_alone(series: Series, table: Table) -> float | None:
    """The one-rank rate of the same model on the same system in another row of the table."""
    same = [other for other in table.series if (other.system, other.model) == (series.system, series.model)]
    return next((p.rate for other in same for p in other.points if p.size == 1 and p.rate is not None), None)


def _wire_bytes(series: Series, count: float) -> float:
    """Gradient bytes; sharded training gathers parameters twice and scatters gradients once: 1.5 allreduces."""
    half = re.match(r"(fp16|bf16)", series.condition) is not None
    sharded = re.search(r"FSDP|torchtitan|ZeRO", series.software + series.model) is not None
    return count * (2 if half else 4) * (1.5 if sharded else 1.0)
