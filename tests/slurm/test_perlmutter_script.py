# SPDX-License-Identifier: Apache-2.0
"""jobscripts/perlmutter.slurm, unchanged, on a real Slurm: account, nodes and what to train come from outside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from slurm_bed import PROJECT, Bed

from hpc_dl.scaling.records import read_run

pytestmark = pytest.mark.slurm
TRAIN = ("mnist_cnn", "--training.steps", "4", "--log.window_steps", "1", "--log.warmup_steps", "1")
SCRIPT = str(PROJECT / "jobscripts" / "perlmutter.slurm")


def submit(
    bed: Bed, folder: Path, *words: str, options: tuple[str, ...] = ("-N", "2"), **extra: str
) -> tuple[dict[str, str], str]:
    """The finished job's fields and its log; the project is found by HPC_DL_HOME, so that the tree stays clean."""
    extra = {"HPC_DL_HOME": str(PROJECT), **extra}
    job_id = bed.submit(["-A", "m1234", "-t", "6", *options, SCRIPT, *words], folder, **extra)
    fields = bed.wait(job_id, seconds=300)
    return fields, (folder / f"hpc_dl-{job_id}.out").read_text()


def test_two_nodes_eight_ranks_train_to_the_end_and_report(bed: Bed, tmp_path: Path) -> None:
    fields, log = submit(bed, tmp_path, *TRAIN)
    assert (fields["JobState"], fields["ExitCode"]) == ("COMPLETED", "0:0"), log
    run = read_run(next((tmp_path / "runs").iterdir()))
    assert run.end is not None
    assert (run.end.reason, run.end.steps) == ("finished", 4)
    assert (run.header.world_size, run.header.nodes, run.header.ranks_per_node) == (8, 2, (4, 4))
    assert (run.header.launcher, run.header.job_id) == ("slurm", fields["JobId"])
    assert "hpc_dl job: 2 nodes: nid000001 nid000002" in log
    assert "<svg" in (run.folder / "report" / "report.html").read_text()
