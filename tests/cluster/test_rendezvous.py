# SPDX-License-Identifier: Apache-2.0
"""Where the ranks meet."""

from __future__ import annotations

import pytest
from recorded_environments import BATCH_SHELL, PBS_JOB, SHELL, hydra, pals, slurm_task, torchrun

from hpc_dl.cluster.rendezvous import Address, find_address
from hpc_dl.errors import HpcDlError

STEP = slurm_task(5, 8, 1, 1, "4(x2)")


def everything_resolves(host: str) -> bool:
    return True


def nothing_resolves(host: str) -> bool:
    return False


def test_torchrun_and_job_scripts_set_the_address() -> None:
    assert find_address(torchrun(1, 2, 1, 2), nothing_resolves) == Address("localhost", 37479)
    given = {"MASTER_ADDR": "x1.hsn.cm.aurora.alcf.anl.gov", "MASTER_PORT": "2345"}
    assert find_address(PBS_JOB | pals(1, 1, 2, 0) | given, nothing_resolves) == Address(given["MASTER_ADDR"], 2345)


def test_a_slurm_step_meets_on_its_first_node() -> None:
    assert find_address(STEP, everything_resolves) == Address("nid001040", 10000 + 31415926 % 20000)


def test_names_that_do_not_resolve_fall_back_to_the_launching_node() -> None:
    address = find_address(STEP, nothing_resolves)
    assert address is not None
    assert address.host == "10.249.4.12"


def test_steps_and_jobs_have_ports_of_their_own() -> None:
    environments = [STEP, STEP | {"SLURM_STEP_ID": "1"}, STEP | {"SLURM_JOB_ID": "31415927"}]
    addresses = [find_address(environ, everything_resolves) for environ in environments]
    assert len({address.port for address in addresses if address}) == 3
    assert all(address and 10000 <= address.port < 32768 for address in addresses)


def test_a_given_address_keeps_the_computed_port() -> None:
    address = find_address(STEP | {"MASTER_ADDR": "nid001040-hsn0"}, nothing_resolves)
    assert address == Address("nid001040-hsn0", 10000 + 31415926 % 20000)


@pytest.mark.parametrize("environ", [SHELL, BATCH_SHELL, PBS_JOB | pals(1, 1, 2, 0), SHELL | hydra(1, 2, 1, 2)])
def test_where_nothing_tells_the_caller_must_agree(environ: dict[str, str]) -> None:
    assert find_address(environ, everything_resolves) is None


@pytest.mark.parametrize("extra", [{}, {"MASTER_PORT": "http"}, {"MASTER_PORT": "70000"}, {"MASTER_PORT": "0"}])
def test_half_an_address_is_refused(extra: dict[str, str]) -> None:
    with pytest.raises(HpcDlError, match="MASTER_PORT"):
        find_address(SHELL | {"MASTER_ADDR": "a"} | extra, everything_resolves)


def test_the_default_resolver_asks_the_system() -> None:
    address = find_address(STEP | {"SLURM_STEP_NODELIST": "no-such-host.invalid"})
    assert address is not None
    assert address.host == "10.249.4.12"
    assert find_address(STEP | {"SLURM_STEP_NODELIST": "localhost"}) == Address("localhost", address.port)
