# SPDX-License-Identifier: Apache-2.0
"""jobscripts/perlmutter.slurm, unchanged, on a real Slurm: account, nodes and what to train come from outside."""

from __future__ import annotations

import time

import pytest
from slurm_site import Site

from hpc_dl.runlog.records import read_run

pytestmark = pytest.mark.slurm
TRAIN = ("mnist_cnn", "--training.steps", "4", "--log.window_steps", "1", "--log.warmup_steps", "1")


def test_two_nodes_eight_ranks_train_to_the_end_and_report(site: Site) -> None:
    fields, log = site.submit("-N", "2", train=TRAIN, seconds=300)
    assert (fields["JobState"], fields["ExitCode"]) == ("COMPLETED", "0:0"), log
    run = read_run(site.folder / "runs" / f"hpc_dl-{fields['JobId']}")
    assert run.end is not None
    assert (run.end.reason, run.end.steps) == ("finished", 4)
    assert (run.header.world_size, run.header.nodes, run.header.ranks_per_node) == (8, 2, (4, 4))
    assert (run.header.launcher, run.header.job_id) == ("slurm", fields["JobId"])
    assert "hpc_dl job: 2 nodes: nid000001 nid000002" in log
    assert "<svg" in (run.folder / "report" / "report.html").read_text()


def test_every_rank_gets_its_place_its_words_and_its_environment(quick: Site) -> None:
    words = ("own model.toml", "--name", "it's $(id); a\tb", "--data.options", '{"folder": "/x y"}', "", "*")
    fields, log = quick.submit("-N", "2", train=words, OMP_PLACES="cores")
    assert fields["JobState"] == "COMPLETED", log
    told = quick.told()
    assert [report["rank"] for report in told] == list(range(8))
    assert {tuple(report["words"]) for report in told} == {words}
    assert [report["local_rank"] for report in told] == [0, 1, 2, 3] * 2
    assert [report["node"] for report in told] == ["nid000001"] * 4 + ["nid000002"] * 4
    assert [report["device"] for report in told] == [3, 2, 1, 0] * 2
    for report in told:
        environ = report["environ"]
        assert environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3", "NVLink between ranks needs all of them visible"
        assert environ["HPC_DL_WORLD_SIZE"] == "8"
        assert environ["HPC_DL_MACHINE"] == "perlmutter"
        assert environ["FI_MR_CACHE_MONITOR"] == "userfaultfd"
        assert environ["SLURM_CPUS_PER_TASK"] == "32"
        assert "OMP_PLACES" not in environ
    assert len({(report["environ"]["MASTER_ADDR"], report["environ"]["MASTER_PORT"]) for report in told}) == 1
    assert f"the report of runs/hpc_dl-{fields['JobId']}" in log


def test_cyclic_distribution(quick: Site) -> None:
    fields, log = quick.submit("-N", "2", train=("x",), SLURM_DISTRIBUTION="cyclic")
    assert fields["JobState"] == "COMPLETED", log
    told = quick.told()
    assert [report["node"] for report in told] == ["nid000001", "nid000002"] * 4
    assert [report["local_rank"] for report in told] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [report["device"] for report in told] == [3, 3, 2, 2, 1, 1, 0, 0]


def test_a_failing_rank_ends_the_job_at_once_and_is_named(quick: Site) -> None:
    started = time.monotonic()
    fields, log = quick.submit("-N", "2", train=("fail", "5"))
    assert time.monotonic() - started < 40, "the others were left waiting in their collective"
    assert fields["JobState"] == "FAILED"
    assert "5: hpc-dl: rank 5 failed: disk gone" in log
    assert "task 5: Exited with exit code 7" in log
    assert "training ended with status" in log
    assert "the report of" not in log


def test_a_rank_that_fails_in_training_ends_the_job_and_is_named(site: Site) -> None:
    (site.folder / "broken.py").write_text(
        "import os\n\ndef load(**options):\n    if os.environ['SLURM_PROCID'] == '1':\n        raise OSError('disk gone')\n"  # noqa: E501
        "    from hpc_dl.data.digits import load\n    return load()\n"
    )
    train = (*TRAIN, "--data.source", "broken:load")
    fields, log = site.submit("-N", "2", "--ntasks-per-node=1", train=train, seconds=240)
    assert fields["JobState"] == "FAILED", log
    assert "1: hpc-dl: rank 1 of 2 on nid000002 failed: OSError: disk gone" in log


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"SITE_MODULES": "python"}, "module load pytorch failed: module avail pytorch shows what there is"),
        ({"SITE_SILENT": "pytorch"}, "module load pytorch loaded nothing: module avail pytorch shows what there is"),
        ({"SITE_LOGIN": "no"}, "there is no module command here: the script's first line must be #!/bin/bash -l"),
        ({"SITE_PYTHON": "/nowhere"}, "there is no python on PATH: name the modules or HPC_DL_VENV that bring it"),
        ({"HPC_DL_VENV": "/no/venv"}, "there is no Python environment in /no/venv (no bin/activate)"),
        ({"HPC_DL_HOME": "/tmp"}, "submit from the project's folder, or export HPC_DL_HOME"),
    ],
)
def test_what_is_missing_stops_the_job_by_a_sentence(quick: Site, extra: dict[str, str], sentence: str) -> None:
    fields, log = quick.submit("-N", "1", train=("x",), **extra)
    assert (fields["JobState"], fields["ExitCode"]) == ("FAILED", "1:0"), log
    assert f"hpc_dl job: {sentence}" in log
    assert quick.told() == []


def test_a_node_with_too_few_devices_stops_the_job(quick: Site) -> None:
    fields, log = quick.submit("-N", "1", "--gpus-per-node=2", train=("x",))
    assert fields["JobState"] == "FAILED"
    assert "node nid000001 shows 2 devices, 4 are needed" in log


def test_half_a_node_with_one_rank(quick: Site) -> None:
    options = ("-q", "shared", "-N", "1", "--ntasks-per-node=1", "--gpus-per-node=1")
    fields, log = quick.submit(*options, train=("x",))
    assert fields["JobState"] == "COMPLETED", log
    assert [report["world_size"] for report in quick.told()] == [1]
