# SPDX-License-Identifier: Apache-2.0
"""The study for programs: JSON with everything, CSV with one line per size and one line per run."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from hpc_dl.report import verdict
from hpc_dl.report.study import Study
from hpc_dl.report.tables import amdahl_fit
from hpc_dl.scaling import laws
from hpc_dl.scaling.runs import label
from hpc_dl.scaling.split import CAUSES, PARTS
from hpc_dl.scaling.statistics import Estimate
from hpc_dl.scaling.steady import Measured

Facts = dict[str, Any]


def json_text(study: Study) -> str:
    """Everything the report says, as numbers; what is not known is null."""
    baseline = study.baseline
    found = study.recommendation
    strong = study.scaling == "strong"
    plain = {
        "version": 1,
        "name": study.name,
        "scaling": study.scaling,
        "verdict": verdict.verdict(study),
        "advice": verdict.advice(study),
        "baseline": {"choice": study.question.baseline, "ranks": baseline.world_size, "nodes": baseline.nodes},
        "recommended": {
            "target_efficiency": found.target,
            "ranks": found.point.size.world_size if found.point else None,
            "nodes": found.point.size.nodes if found.point else None,
            "certain": found.certain,
        },
        "amdahl_serial_fraction": ends("value", amdahl_fit(study)) if strong else None,
        "sizes": size_facts(study),
        "runs": [run_facts(measured) for measured in study.measured],
        "shared": dict(study.environment.shared),
        "differing": {
            difference.fact: {value: [label(run) for run in runs] for value, runs in difference.values}
            for difference in study.environment.differing
        },
        "predicted": [
            {
                "ranks": a.world_size,
                "nodes": a.nodes,
                **ends("efficiency", a.efficiency),
                **ends("step_seconds", a.step_seconds),
            }
            for a in study.outlook.points
        ],
        "prediction_refused": study.outlook.refusal or None,
        "notes": [{"level": note.level, "text": note.text} for note in study.notes],
    }
    return json.dumps(plain, indent=1, allow_nan=False)


def csv_text(lines: Sequence[Facts]) -> str:
    """One line per dictionary; all have the same keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def size_facts(study: Study) -> list[Facts]:
    """One dictionary per size."""
    facts: list[Facts] = []
    for point, found, lost, cost in zip(study.points, study.splits, study.losses, study.costs, strict=True):
        size, header = point.size, point.size.header
        law = laws.karp_flatt if study.scaling == "strong" else laws.gustafson
        lawful = point.ideal_speedup > 1 and study.scaling != "unstated"
        serial = law(point.speedup, point.ideal_speedup) if lawful else None
        facts.append(
            {
                "ranks": size.world_size,
                "nodes": size.nodes,
                "local_batch": header.local_batch or None,  # 0 where nobody knows it
                "global_batch": header.global_batch or None,
                "runs": len(size.runs),
                "steps": sum(measured.steps for measured in size.runs) or None,
                "interval_over": size.basis,
                **ends("samples_per_second", point.throughput),
                **ends("step_seconds", point.step_seconds),
                **ends("speedup", point.speedup),
                "ideal_speedup": point.ideal_speedup,
                **ends("efficiency", point.efficiency),
                **ends("serial_part", serial),
                **{f"{part}_seconds": found.seconds.get(part) for part in PARTS},
                **{f"lost_to_{cause}": lost.get(cause) for cause in CAUSES},
                **ends("node_hours_per_million_samples", cost.node_hours_per_million),
                **ends("node_hours_per_epoch", cost.node_hours_per_epoch),
            }
        )
    return facts


def run_facts(measured: Measured) -> Facts:
    """One run."""
    header, end = measured.run.header, measured.run.end
    return {
        "run": label(measured.run),
        "started": header.started or None,
        "ranks": header.world_size,
        "nodes": header.nodes,
        "job_id": header.job_id,
        "windows": len(measured.windows),
        "steps": measured.steps or None,
        "warmup_windows_found": measured.warmup_found,
        "settled": measured.settled,
        "outliers": len(measured.outliers),
        "samples_per_second": 1 / measured.cost.value,
        "broken_lines": len(measured.run.broken),
        "startup_seconds": end.startup_seconds if end else None,
        "first_step_seconds": end.first_step_seconds if end else None,
        "end": end.reason if end else None,
        "hosts": " ".join(header.hosts),
    }


def ends(name: str, estimate: Estimate | None) -> Facts:
    """A value and the ends of its interval under three names; what is not known is None."""
    shown = estimate or Estimate(math.nan, math.nan, math.nan)
    values = {name: shown.value, f"{name}_low": shown.low, f"{name}_high": shown.high}
    return {key: value if math.isfinite(value) else None for key, value in values.items()}
