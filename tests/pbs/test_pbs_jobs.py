# SPDX-License-Identifier: Apache-2.0
"""Jobs on the stand-in live and end as under PBS."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from standin.login import Login
from standin.site import Queue

HEADER = """#!/bin/bash -l
#PBS -N job
#PBS -A proj
#PBS -l select=1
#PBS -l walltime=00:05:00
#PBS -l filesystems=home:flare
#PBS -j oe
"""


def test_what_a_job_finds(login: Login) -> None:
    login.environ["SECRET_OF_THE_LOGIN_SHELL"] = "1"
    script = (
        HEADER + 'pwd; hostname; sort "$PBS_NODEFILE"; env\nlabel=$(getent hosts "$(hostname)"); echo "at $label"\n'
    )
    name = login.submit("-l", "select=2", "-v", "GREETING=hello world", script=script)
    job = login.wait(name)
    text = (login.directory / "job.o1").read_text()
    assert job["exit_status"] == 0
    assert text.splitlines()[:2] == [str(login.site.home), "n1"]
    assert "n2.hsn.cm.standin\n" in text
    assert f"PBS_O_WORKDIR={login.directory}\n" in text
    assert f"PBS_JOBID={name}\n" in text
    assert "GREETING=hello world\n" in text
    assert "at 127.0.0.1 " in text
    assert "SECRET_OF_THE_LOGIN_SHELL" not in text


def test_mpiprocs_repeat_hosts_in_the_node_file(login: Login) -> None:
    login.wait(
        login.submit(
            "-l", "select=2:mpiprocs=3", script=HEADER + 'wc -l < "$PBS_NODEFILE"; uniq "$PBS_NODEFILE" | wc -l\n'
        )
    )
    assert (login.directory / "job.o1").read_text().split() == ["6", "2"]


def test_exit_codes_and_signals(login: Login) -> None:
    assert login.wait(login.submit(script=HEADER + "exit 7\n"))["exit_status"] == 7
    killed = HEADER + "kill -9 $$\n"  # the script is a child of the job's shell: 256 + 9 would be the shell's own end
    assert login.wait(login.submit(script=killed))["exit_status"] == 128 + 9


def test_the_end_of_the_walltime(make_site: Callable[..., Login]) -> None:
    login = make_site(queues={"debug": Queue()})
    patient = "trap 'echo got TERM' TERM\nsleep 600 & wait; sleep 600 & wait; echo never\n"
    name = login.submit("-l", "walltime=1", script=HEADER + patient)
    job = login.wait(name, seconds=15)
    text = (login.directory / "job.o1").read_text()
    assert job["exit_status"] == -29
    assert "=>> PBS: job killed: walltime 2 exceeded limit 1" in text
    assert "got TERM" in text
    assert "never" not in text
    assert job["end_time"] - job["start_time"] < 6


def test_qdel_ends_queued_and_running_jobs(login: Login) -> None:
    running = login.submit("-l", "select=2", script=HEADER + "sleep 600\n")
    login.wait(running, "R")
    queued = login.submit(script=HEADER + "echo\n")
    assert "Not Running" in login.wait_for_comment(queued)
    assert login.run("qdel", queued, running).returncode == 0
    assert login.wait(queued)["exit_status"] is None
    assert login.wait(running)["exit_status"] == 256 + 15
    again = login.run("qdel", running)
    assert (again.returncode, "Job has finished" in again.stderr) == (35, True)
    assert login.run("qdel", "99").returncode == 153


def test_more_nodes_than_there_are_never_run(make_site: Callable[..., Login]) -> None:
    login = make_site(queues={"debug": Queue()})
    name = login.submit("-l", "select=3", script=HEADER)
    assert "Can Never Run" in login.wait_for_comment(name)


def test_dependencies(login: Login) -> None:
    bad = login.submit(script=HEADER + "exit 3\n")
    after_any = login.submit("-W", f"depend=afterany:{bad}", script=HEADER + "echo ran\n")
    after_ok = login.submit("-W", f"depend=afterok:{bad}", script=HEADER + "echo ran\n")
    after_not_ok = login.submit("-W", f"depend=afternotok:{bad}", script=HEADER + "echo ran\n")
    assert login.wait(after_any)["exit_status"] == 0
    assert login.wait(after_not_ok)["exit_status"] == 0
    assert login.wait(after_ok)["exit_status"] is None
    unknown = login.wait(login.submit("-W", "depend=afterany:77", script=HEADER + "echo ran\n"))
    assert (unknown["exit_status"], "start_time" in unknown) == (None, False)


def test_output_paths(login: Login) -> None:
    (login.directory / "logs").mkdir()
    login.wait(login.submit("-o", "logs", "-j", "oe", script=HEADER + "echo one\n"))
    login.wait(login.submit("-o", "logs/two.log", "-j", "n", script=HEADER + "echo two; echo err >&2\n"))
    assert (login.directory / "logs/1.standin-pbs.OU").read_text() == "one\n"
    assert (login.directory / "logs/two.log").read_text() == "two\n"
    assert (login.directory / "job.e2").read_text() == "err\n"


def test_output_written_directly_needs_its_folder(login: Login) -> None:
    name = login.submit("-k", "doe", "-o", "missing/log", script=HEADER + "echo\n")
    assert login.wait(name, "H", 10)["comment"] == "job held, too many failed attempts to run"


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        ("#PBS -A proj\n", "Account_Name is required to be set."),
        ("#PBS -l walltime=00:05:00\n", "Resource: walltime is required to be set."),
        ("#PBS -l filesystems=home:flare\n", "Resource: filesystems is required to be set."),
    ],
)
def test_the_site_demands(login: Login, leave_out: str, message: str) -> None:
    done = login.run("qsub", stdin=HEADER.replace(leave_out, ""))
    assert (done.returncode, message in done.stderr) == (32, True)


@pytest.mark.parametrize("words", [["-l", "select=3"], ["-l", "walltime=2:00:00"], ["-l", "walltime=60"]])
def test_queue_limits(login: Login, words: list[str]) -> None:
    assert "Job violates queue and/or server resource limits" in login.run("qsub", *words, stdin=HEADER).stderr
    assert "Unknown queue" in login.run("qsub", "-q", "express", stdin=HEADER).stderr


def test_qstat_forms(login: Login) -> None:
    name = login.submit("-l", "select=2", script=HEADER + "sleep 600\n")
    login.wait(name, "R")
    assert login.run("qstat").stdout.splitlines()[2].split() == [name, "job", "scientist", "00:00:00", "R", "debug"]
    assert "job_state = R" in login.run("qstat", "-f", name).stdout
    login.run("qdel", name)
    login.wait(name)
    assert login.run("qstat").stdout == ""
    assert "Job has finished, use -x" in login.run("qstat", name).stderr
    record = json.loads(login.run("qstat", "-x", "-f", "-F", "json", name).stdout)["Jobs"][name]
    assert (record["job_state"], record["Exit_status"], record["Resource_List"]["nodect"]) == ("F", 271, 2)
    assert login.run("qstat", "99").returncode == 153
    assert "valid_filesystems" in login.run("qstat", "-Bf").stdout


def test_scripts_that_do_not_exist(login: Login) -> None:
    assert "No such file or directory" in login.run("qsub", "missing.pbs").stderr
    assert "script not a file" in login.run("qsub", ".").stderr


def test_an_executable_without_a_script(login: Login) -> None:
    words = [
        "-A",
        "p",
        "-l",
        "select=1,walltime=300,filesystems=home",
        "-o",
        "out",
        "--",
        sys.executable,
        "-c",
        "print(6 * 7)",
    ]
    login.wait(login.submit(*words))
    assert (login.directory / "out").read_text() == "42\n"


def test_modules(login: Login) -> None:
    login.wait(
        login.submit(
            script=HEADER + "module load frameworks && which python hpc-dl; module load nosuch || echo refused\n"
        )
    )
    text = (login.directory / "job.o1").read_text()
    assert str(login.site.folder / "software" / "python") in text
    assert 'unknown: "nosuch"' in text
    assert text.endswith("refused\n")


def test_no_queue_commands_on_compute_nodes(login: Login) -> None:
    login.wait(login.submit(script=HEADER + "which qstat || echo none\n"))
    assert (login.directory / "job.o1").read_text() == "none\n"
    assert not (Path(login.site.node_bin) / "qsub").exists()
