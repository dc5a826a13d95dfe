# SPDX-License-Identifier: Apache-2.0
"""Checks of ranks among each other, with worlds that this machine cannot make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import aurora, perlmutter, scene, session

from hpc_dl.doctor import collectives, equal
from hpc_dl.doctor.finding import Finding


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1
    return findings[0]


def test_clocks(tmp_path: Path) -> None:
    good = only(collectives.check_clocks(session(), scene(tmp_path)))
    off = only(collectives.check_clocks(session(lambda value, rank: value + 3600), scene(tmp_path)))
    little = only(collectives.check_clocks(session(lambda value, rank: value - 0.5), scene(tmp_path)))
    assert (good.verdict, off.verdict, little.verdict) == ("ok", "fail", "warn")
    assert "3600.0 s" in off.found
    assert off.remedy


def test_the_rank_whose_clock_is_off_is_named(tmp_path: Path) -> None:
    three = session(lambda value, rank: value + 100 * (rank == 2), ("n1", "n2", "n3"), (frozenset({0}),) * 3)
    assert "rank 2 on n3" in only(collectives.check_clocks(three, scene(tmp_path))).found


def test_a_wrong_sum_is_a_failure(tmp_path: Path) -> None:
    finding = only(collectives.check_allreduce(session(factor=1.5), scene(tmp_path)))
    assert finding.verdict == "fail"
    assert "rank 0 on n1 got 4.5 for a sum that is 3" in finding.found
    assert "do not train here" in finding.remedy


def test_a_slow_network_between_nodes_is_measured_by_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "_time_reduction", lambda session, numbers: (0.009, 3.0))
    slow = only(collectives.check_allreduce(session(), perlmutter(tmp_path)))
    assert (slow.verdict, "0.93 GB/s" in slow.found, "NCCL_NET" in slow.remedy) == ("warn", True, True)
    assert only(collectives.check_allreduce(session(hosts=("n1", "n1")), perlmutter(tmp_path))).verdict == "ok"


def test_a_rank_far_behind_is_named(tmp_path: Path) -> None:
    three = session(lambda value, rank: value * (5 if rank == 1 else 1), ("a", "b", "c"), (frozenset({0}),) * 3)
    finding = only(collectives.check_speed(three, scene(tmp_path)))
    assert (finding.verdict, "rank 1 on b" in finding.found) == ("warn", True)
    assert only(collectives.check_speed(session(), scene(tmp_path))).verdict == "ok"


def test_gradients_through_host_memory(tmp_path: Path) -> None:
    finding = only(collectives.check_transport(session(device="cuda", backend="gloo"), scene(tmp_path)))
    assert (finding.verdict, "nccl" in finding.remedy) == ("warn", True)


def test_a_host_that_knows_itself_as_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "_own_address", lambda: "127.0.1.1")
    finding = only(collectives.check_transport(session(), scene(tmp_path)))
    assert (finding.verdict, "GLOO_SOCKET_IFNAME" in finding.remedy) == ("warn", True)
    assert only(collectives.check_transport(session(hosts=("n1", "n1")), scene(tmp_path))).verdict == "ok"


def test_environments_that_differ(tmp_path: Path) -> None:
    def others(value: Any, rank: int) -> Any:
        return {**value, "FI_PROVIDER": "tcp"} if isinstance(value, dict) else "another digest"

    finding = only(equal.check_environments(session(others), scene(tmp_path, environ={"FI_PROVIDER": "cxi"})))
    assert finding.verdict == "fail"
    assert "FI_PROVIDER is cxi, but tcp on rank 1 (n2)" in finding.found
    assert "--envall" in finding.remedy


def test_crowded_cpus(tmp_path: Path) -> None:
    same = session(hosts=("n1", "n1"), masks=(frozenset({0}), frozenset({0})))
    finding = only(equal.check_binding(same, scene(tmp_path)))
    assert (finding.verdict, "2 ranks on n1 share 1 CPUs (0)" in finding.found) == ("fail", True)
    pair = session(hosts=("n1",) * 3, masks=(frozenset({0}), frozenset({0}), frozenset({1, 2})))
    assert "2 ranks on n1 are bound to the same CPUs, 0" in only(equal.check_binding(pair, scene(tmp_path))).found
    assert only(equal.check_binding(session(), scene(tmp_path))).verdict == "ok"


def test_the_machines_record_judges_the_binding(tmp_path: Path) -> None:
    on_reserved = session(masks=(frozenset({0, 1, 2, 3}), frozenset({4, 5, 6, 7})))
    findings = equal.check_binding(on_reserved, aurora(tmp_path))
    assert any("CPUs that the system keeps" in finding.found for finding in findings)
    assert {finding.verdict for finding in findings} == {"warn"}


def test_a_folder_other_ranks_do_not_see(tmp_path: Path) -> None:
    finding = only(collectives.check_folder(session(lambda value, rank: False), scene(tmp_path)))
    assert (finding.verdict, "rank 1 on n2 does not see" in finding.found) == ("fail", True)
    assert "parallel file system" in finding.remedy
    assert not (tmp_path / "runs").exists()


def test_a_check_that_hangs_is_ended_with_its_stack() -> None:
    program = (
        "import time\nfrom hpc_dl.doctor.finding import to_text\nfrom hpc_dl.doctor.watchdog import Watchdog\n"
        "dog = Watchdog(1, lambda finding: print(to_text(finding), flush=True))\n"
        "for name in ('one', 'two', 'three'):\n    with dog.over(name):\n        time.sleep(0.4)\n"
        "time.sleep(1.5)\nwith dog.over('the last check'):\n    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9
    assert "fail hang: the last check did not end within 1 s on this rank" in done.stdout
    assert 'File "<string>", line 10' in done.stderr


def test_the_watchdog_leaves_with_the_rank() -> None:
    program = (
        "from hpc_dl.doctor.watchdog import Watchdog\ndog = Watchdog(60, print)\n"
        "with dog.over('work'):\n    pass\ndog.close()\n"
    )
    words = [sys.executable, "-c", program]
    assert subprocess.run(words, capture_output=True, timeout=20, check=True).stdout == b""  # waits for all writers
