# SPDX-License-Identifier: Apache-2.0
"""What schedulers are told and what they say: directives, job ids, states; what they cannot carry is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_dl.cluster import machines
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.payload import Payload, own, training
from hpc_dl.jobs.request import Request, complete
from hpc_dl.jobs.schedulers import SCHEDULERS
from hpc_dl.jobs.script import render

SLURM, PBS = SCHEDULERS["slurm"], SCHEDULERS["pbs"]
SAFE = re.compile(r"[A-Za-z0-9_.+&|:=@/%,()\[\]*-]+")


def directives(machine: str, **changes: object) -> list[str]:
    record = machines.load(machine)
    request = complete(Request(**changes), record)  # type: ignore[arg-type]
    return SCHEDULERS[record.scheduler].directives(request, record)


def test_perlmutter_states_what_the_site_demands() -> None:
    lines = directives("perlmutter", account="m1234", nodes=64, minutes=360, constraint="gpu&hbm80g")
    for line in ("--account=m1234", "--qos=regular", "--constraint=gpu&hbm80g", "--nodes=64", "--ntasks-per-node=4",
                 "--gpus-per-node=4", "--cpus-per-task=32", "--time=06:00:00", "--no-requeue"):  # fmt: skip
        assert line in lines
    assert not any(line.startswith(("-p", "--partition", "--ntasks-per-gpu", "--wait")) for line in lines)


def test_shared_queue_asks_for_as_many_devices_as_ranks() -> None:
    assert "--gpus-per-node=1" in directives("perlmutter", queue="shared", nodes=1, ranks_per_node=1)


def test_a_job_that_may_start_again_appends_to_its_log() -> None:
    assert {"--requeue", "--open-mode=append"} <= set(directives("perlmutter", rerun=True))
    assert "-r y" in directives("aurora", rerun=True)


def test_a_script_that_nothing_can_override_knows_its_walltime() -> None:
    """qstat is not on PATH on Aurora's nodes."""
    aurora = machines.load("aurora")
    assert PBS.job_end(Request(payload=training(("ols",)), minutes=90), aurora) == "pbs_job_end 01:30:00"
    longer = Request(payload=training(("ols",)), directives=("-l walltime=02:00:00",))
    assert PBS.job_end(complete(longer, aurora), aurora) == "pbs_job_end 02:00:00"
    assert PBS.job_end(Request(), aurora) == "pbs_job_end", "options of qsub may give another one"


def test_aurora_and_polaris_state_what_the_site_demands() -> None:
    lines = directives("aurora", account="Climate", nodes=300, minutes=720)
    for line in ("-A Climate", "-q prod", "-l select=300", "-l place=scatter", "-l walltime=12:00:00",
                 "-l filesystems=home:flare", "-k doe", "-j oe", "-r n"):  # fmt: skip
        assert line in lines
    assert "-l select=4:system=polaris" in directives("polaris", nodes=4)


nasty = st.one_of(
    st.sampled_from(
        ["a b", "$(id)", "a;b", "a\n#PBS -q evil", 'a"', "a'", "`id`", "a#b", "a\\", "", " a", "a\n", "\u00e9"]
    ),
    st.text(max_size=20),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["perlmutter", "aurora"]), st.sampled_from(["name", "account", "queue", "constraint"]), nasty)
def test_directives_carry_a_value_as_it_is_or_refuse_it(machine: str, field: str, value: str) -> None:
    try:
        lines = directives(machine, **{field: value})
    except HpcDlError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "cannot carry it" in refusal
        return
    default = directives(machine)
    assert len(lines) <= len(default) + 1
    for line in set(lines) - set(default):
        assert SAFE.fullmatch(re.split("[ =]", line, maxsplit=1)[1])
        assert not value or value in line


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["perlmutter", "aurora"]),
    st.sampled_from([training, own]),
    st.lists(nasty, min_size=1, max_size=4),
    nasty,
    nasty,
)
def test_no_text_of_a_user_becomes_a_directive(
    machine: str, payload: Callable[[Sequence[str]], Payload], train: list[str], folder: str, environment: str
) -> None:
    record = machines.load(machine)
    request = Request(
        payload=payload(("x", *train)),
        work_folder=f"/{folder}",
        run_folder=f"/r{folder}",
        python_environment=environment,
    )
    if "\0" in "".join([*train, folder, environment]):
        with pytest.raises(HpcDlError, match="zero byte"):
            render(request, record)
        return
    script = render(request, record)
    marker = SCHEDULERS[record.scheduler].directive
    expected = [
        f"{marker} {line}" for line in SCHEDULERS[record.scheduler].directives(complete(request, record), record)
    ]
    assert [
        line for line in script.splitlines() if line.startswith("#") and marker[1:] in line.split(" ")[0]
    ] == expected


@pytest.mark.parametrize(
    "directive", ["--mail-user=me@site.org", "-M me@site.org", "--mail-type=END,FAIL", "-W depend=afterany:123"]
)
def test_further_directives(directive: str) -> None:
    assert directives("aurora", directives=(directive,))[-1] == directive


def test_a_further_resource_replaces_the_one_of_the_request() -> None:
    lines = directives("aurora", nodes=2, directives=("-l place=scatter:group=tier0", "-l walltime=00:20:00,select=4"))
    assert [line for line in lines if line.startswith("-l")] == [
        "-l filesystems=home:flare", "-l place=scatter:group=tier0", "-l walltime=00:20:00,select=4"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "directive", ["", "mail", "--x=$(id)", "-l a b c", "--comment='two words'", "--x\n#PBS -q y", "- x"]
)
def test_further_directives_are_refused(directive: str) -> None:
    with pytest.raises(HpcDlError, match="cannot carry it"):
        directives("aurora", directives=(directive,))


@pytest.mark.parametrize(
    ("scheduler", "output", "job_id"),
    [
        (SLURM, "1234\n", "1234"),
        (SLURM, "1234;perlmutter\n", "1234"),
        (SLURM, "sbatch: Warning 99 nodes\n77\n", "77"),
        (PBS, "8123456.aurora-pbs-0001.hostmgmt.cm.aurora\n", "8123456.aurora-pbs-0001.hostmgmt.cm.aurora"),
        (PBS, "12[].server\n", "12[].server"),
    ],
)
def test_job_ids(scheduler: object, output: str, job_id: str) -> None:
    assert scheduler.read_job_id(output) == job_id  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheduler", [SLURM, PBS])
def test_no_job_id(scheduler: object) -> None:
    with pytest.raises(HpcDlError, match="printed no job id: 'queue is closed'"):
        scheduler.read_job_id("queue is closed")  # type: ignore[attr-defined]


QSTAT = """Job Id: 12.server
    Job_Name = hpc_dl
    job_state = {state}
    comment = Not Running: Insufficient amount of resource: ngpus (R: 4 A: 0
\t T: 8)
{more}    Resource_List.walltime = 00:30:00

"""


@pytest.mark.parametrize(
    ("scheduler", "output", "state", "code"),
    [
        (SLURM, "JobId=3 JobState=PENDING Reason=Resources ExitCode=0:0", "queued", 0),
        (SLURM, "JobId=3 JobState=RUNNING Reason=None ExitCode=0:0", "running", 0),
        (SLURM, "JobId=3 JobState=COMPLETED Reason=None ExitCode=0:0", "finished", 0),
        (SLURM, "JobId=3 JobState=FAILED Reason=NonZeroExitCode ExitCode=143:0", "failed", 143),
        (SLURM, "JobId=3 JobState=TIMEOUT Reason=TimeLimit ExitCode=0:15", "failed", 0),
        (SLURM, "COMPLETED|0:0\n", "finished", 0),
        (SLURM, "CANCELLED by 1001|0:15\n", "failed", 0),
        (SLURM, "OUT_OF_MEMORY|0:125\n", "failed", 0),
        (PBS, QSTAT.format(state="Q", more=""), "queued", None),
        (PBS, QSTAT.format(state="H", more=""), "queued", None),
        (PBS, QSTAT.format(state="R", more=""), "running", None),
        (PBS, QSTAT.format(state="E", more="    Exit_status = 1\n"), "running", 1),
        (PBS, QSTAT.format(state="F", more="    Exit_status = 0\n"), "finished", 0),
        (PBS, QSTAT.format(state="F", more="    Exit_status = -29\n"), "failed", -29),
        (PBS, QSTAT.format(state="F", more="    Exit_status = 271\n"), "failed", 271),
        (PBS, QSTAT.format(state="F", more=""), "failed", None),
        (PBS, QSTAT.format(state="R", more="    Variable_List = A=x\n    job_state = F,\n\tB=1\n"), "running", None),
    ],
)
def test_states(scheduler: object, output: str, state: str, code: int | None) -> None:
    status = scheduler.read_status(output)  # type: ignore[attr-defined]
    assert (status.state, status.exit_code) == (state, code)


@pytest.mark.parametrize("scheduler", [SLURM, PBS])
@pytest.mark.parametrize("output", ["", "slurm_load_jobs error: Invalid job id specified", "qstat: Unknown Job Id 12"])
def test_an_unknown_job_has_no_state(scheduler: object, output: str) -> None:
    assert scheduler.read_status(output) is None  # type: ignore[attr-defined]


def test_reasons_are_kept() -> None:
    status = PBS.read_status(QSTAT.format(state="Q", more=""))
    assert status is not None
    assert status.detail == "Not Running: Insufficient amount of resource: ngpus (R: 4 A: 0 T: 8)"
    over = PBS.read_status("    job_state = F\n    Exit_status = -29\n")
    assert over is not None
    assert over.detail == "over its wall time"


@pytest.mark.parametrize("path", ["/a b", "/a,b", "/a:b", "/a'b", '/a"b', "/a\\b", "/a\nb"])
def test_pbs_refuses_folders_it_would_garble(path: str) -> None:
    assert PBS.refuses_folder(path)
    assert not PBS.refuses_folder("/lus/flare/projects/x_y-1.0/r")
