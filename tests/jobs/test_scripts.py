# SPDX-License-Identifier: Apache-2.0
"""The scripts of jobscripts/ and the settings of launch/ are what the machine records render, byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hpc_dl.cluster import machines
from hpc_dl.commands import job
from hpc_dl.jobs import environment, script
from hpc_dl.jobs.request import Request

PROJECT = Path(__file__).resolve().parents[2]
SITES = ("aurora", "perlmutter", "polaris")
SCRIPTS = {name: PROJECT / "jobscripts" / script.file_name(machines.load(name)) for name in SITES}
ACCEPT = "if the change is meant: hpc-dl job show --machine {0} > jobscripts/..., job environment > launch/{0}.sh"


@pytest.mark.parametrize("name", SITES)
def test_golden_script(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(["show", "--machine", name], {}) == 0
    assert capsys.readouterr().out == SCRIPTS[name].read_text(), ACCEPT.format(name)


@pytest.mark.parametrize("name", SITES)
def test_golden_environment(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(["environment", "--machine", name], {}) == 0
    assert capsys.readouterr().out == (PROJECT / "launch" / f"{name}.sh").read_text(), ACCEPT.format(name)


def test_no_script_is_left_over() -> None:
    assert sorted((PROJECT / "jobscripts").iterdir()) == sorted(SCRIPTS.values())


@pytest.mark.parametrize("name", SITES)
def test_a_script_is_a_page(name: str) -> None:
    lines = SCRIPTS[name].read_text().splitlines()
    assert 40 <= len(lines) <= 70
    assert max(map(len, lines)) <= 120
    assert lines[0] == "#!/bin/bash -l"  # without -l there is no module function
    marker = "#SBATCH" if name == "perlmutter" else "#PBS"
    directives = [index for index, line in enumerate(lines) if line.startswith(marker)]
    assert directives == list(range(1, len(directives) + 1)), "no comment may stand among the directives"


@pytest.mark.parametrize("name", SITES)
def test_no_call_to_a_network(name: str) -> None:
    pieces = [PROJECT / "launch" / piece for piece in ("job.sh", "rank.sh", f"{name}.sh")]
    for path in (SCRIPTS[name], *pieces):
        code = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
        for word in ("curl", "wget", "git ", "pip ", "http", "conda install", "ssh "):
            assert word not in code, f"{path.name} has {word}"


ALL = [*SCRIPTS.values(), *(PROJECT / "launch" / f"{piece}.sh" for piece in ("job", "rank", *SITES))]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_bash_and_shellcheck_find_nothing(path: Path) -> None:
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr == ""
    if shutil.which("shellcheck") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must run shellcheck: apt-get install shellcheck")
        pytest.skip("no shellcheck: apt-get install shellcheck")
    done = subprocess.run(["shellcheck", path], capture_output=True, text=True, cwd=PROJECT, timeout=60)
    assert done.stdout == ""


def environment_of(name: str, nodes: int, **given: str) -> dict[str, str]:
    """The variables a job of so many nodes gets from launch/NAME.sh."""
    code = f"source {PROJECT}/launch/job.sh; nodes={nodes}; source {PROJECT}/launch/{name}.sh; env -0"
    done = subprocess.run(
        ["bash", "-c", code], env={"PATH": os.environ["PATH"], **given}, capture_output=True, check=True
    )
    return dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)


def test_the_environment_grows_with_the_job() -> None:
    one, two, many = (environment_of("aurora", nodes) for nodes in (1, 2, 256))
    assert one["ZE_FLAT_DEVICE_HIERARCHY"] == "FLAT"
    assert one["CCL_PROCESS_LAUNCHER"] == "pmix"
    assert "FI_CXI_DEFAULT_CQ_SIZE" not in one
    assert (two["FI_CXI_DEFAULT_CQ_SIZE"], two["FI_CXI_CQ_FILL_PERCENT"]) == ("131072", "20")
    assert (many["FI_CXI_DEFAULT_CQ_SIZE"], many["FI_CXI_CQ_FILL_PERCENT"]) == ("1048576", "30")
    assert many["CCL_ALLREDUCE_SCALEOUT"] == "direct:0-1048576;rabenseifner:1048577-max"
    assert many["FI_MR_CACHE_MONITOR"] == "userfaultfd"


def test_what_the_user_sets_stays_and_what_the_scheduler_sets_wrongly_goes() -> None:
    found = environment_of(
        "aurora", 2, CCL_OP_SYNC="0", TMPDIR="/var/tmp/pbs.8123456.aurora-pbs-0001", OMP_PLACES="cores"
    )
    assert found["CCL_OP_SYNC"] == "0"
    assert found["TMPDIR"] == "/tmp"
    assert "OMP_PLACES" not in found


def test_profiles_are_opt_in_and_never_on_one_node() -> None:
    assert "NCCL_NET" not in environment_of("perlmutter", 4)
    assert environment_of("perlmutter", 4, HPC_DL_PROFILE="hpe-2026")["NCCL_NET"] == "AWS Libfabric"
    assert "NCCL_NET" not in environment_of("perlmutter", 1, HPC_DL_PROFILE="hpe-2026")
    assert "NCCL_NET" not in environment_of("polaris", 4)  # its plugin's folder is not here


def test_the_binding_chosen_and_the_workers_cores_go_together() -> None:
    aurora = machines.load("aurora")
    assert "default CCL_WORKER_AFFINITY 51,50," in script.render(Request(cpu_bind="D"), aurora)
    assert "CCL_WORKER_AFFINITY" not in script.render(Request(cpu_bind="C"), aurora)
    assert "--cpu-bind list:1-8:9-16:" in script.render(Request(cpu_bind="C"), aurora)


def test_one_device_per_rank_follows_the_machines_order() -> None:
    assert "--gpu-bind=map_gpu:3,2,1,0" in script.render(Request(one_device=True), machines.load("perlmutter"))
    assert "export HPC_DL_ONE_DEVICE=0:1:2:3" in script.render(Request(one_device=True), machines.load("polaris"))


def test_own_cluster(tmp_path: Path) -> None:
    file = tmp_path / "tulip.toml"
    file.write_text(
        'title = "Tulip"\nscheduler = "slurm"\nlauncher = "torchrun"\ndevice = "cuda"\n'
        '[node]\ndevices = 8\n[ranks]\nper_node = 8\n[job]\ndevice_option = "--gres=gpu:"\n'
        '[[queues]]\nname = "gpu"\nmax_minutes = 600\n[[stacks]]\nname = "conda"\nmodules = ["anaconda"]\n'
    )
    text = script.render(Request(nodes=3), machines.load(str(file)))
    for line in (
        "#SBATCH --partition=gpu",
        "#SBATCH --gres=gpu:8",
        "load_modules anaconda",
        'rendezvous="$MASTER_ADDR:$MASTER_PORT"',
    ):
        assert line in text.splitlines()
    assert 'srun -N "$nodes" -n "$nodes" --ntasks-per-node 1' in text
    assert environment.render(machines.load(str(file))).count("export") == 0
