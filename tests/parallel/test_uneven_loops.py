# SPDX-License-Identifier: Apache-2.0
"""Own loops that do not fit together end in one sentence, and streams of unequal length end together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.ranks import clean_environment, run, run_ranks

pytestmark = pytest.mark.parallel

LOOP = """
    import sys, time, torch, hpc_dl
    from hpc_dl.settings import ExchangeSettings
    engine, longer, dawdle = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with hpc_dl.start(ExchangeSettings(engine=engine)) as session:
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        session.distribute(model, optimizer)
        for _ in range(5 if session.rank == longer else 4):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).mean().backward()
            optimizer.step()
        if session.rank == 0:
            time.sleep(dawdle)
"""

STREAMS = """
    import sys, torch, hpc_dl
    from hpc_dl.settings import ExchangeSettings
    with hpc_dl.start(ExchangeSettings(engine=sys.argv[1])) as session:
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(model.weight)
        optimizer = torch.optim.SGD(model.parameters(), 1.0)
        session.distribute(model, optimizer)
        drawn = []
        def stream(length):
            for number in range(length):
                drawn.append(number)
                yield torch.full((1, 1), float(number + 1))
        for epoch in range(2):
            taken = 0
            for x in session.until_any_ends(stream([5, 3, 4][session.rank] - epoch)):
                optimizer.zero_grad()
                model(x).sum().backward()
                optimizer.step()
                taken += 1
            mean = session.engine.average(torch.tensor([float(session.rank)])).item()
            weight = model.weight.item()
            print(f"rank {session.rank} epoch {epoch} took {taken} mean {mean} weight {weight}.", flush=True)
"""


@pytest.mark.parametrize(("engine", "ranks", "longer"), [("horovod", 2, 0), ("torch", 2, 1), ("torch", 3, 0)])
def test_who_left_is_named_with_its_steps(engine: str, ranks: int, longer: int) -> None:
    ended = run_ranks(ranks, LOOP, engine, str(longer), "0", timeout_seconds=60)
    assert ended.code != 0
    found = re.search(
        rf"rank {longer} of {ranks} on \S+ failed: the same number of steps on all ranks: "
        r"rank (\d) left after 4 steps, and this rank is in a collective after 4",
        ended.output,
    )
    assert found, ended.output
    assert int(found[1]) != longer
    assert "until_any_ends" in ended.output
    assert "lost contact" not in ended.output
    assert "Traceback" not in ended.output


def test_a_rank_that_exits_without_an_error_has_left_too() -> None:
    program = LOOP.replace("time.sleep(dawdle)", "sys.exit()")
    ended = run_ranks(2, program, "torch", "1", "0", timeout_seconds=60)
    assert ended.code != 0
    assert "rank 0 left after 4 steps, and this rank is in a collective after 4" in ended.output


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_rank_that_is_merely_late_is_waited_for(engine: str) -> None:
    ended = run_ranks(2, LOOP, engine, "-1", "9", timeout_seconds=60)
    assert ended.code == 0, ended.output
    assert "hpc-dl:" not in ended.output


def test_without_mpi4py_nobody_points_to_a_message_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('not here')\n")
    environ = clean_environment(PYTHONPATH=str(tmp_path))
    ended = run_ranks(2, LOOP, "horovod", "0", "0", timeout_seconds=60, environ=environ)
    assert ended.code != 0
    assert "lost contact with another rank, which says why if it failed itself" in ended.output


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_streams_of_unequal_length_end_together(engine: str) -> None:
    ended = run_ranks(3, STREAMS, engine, timeout_seconds=90)
    assert ended.code == 0, ended.output
    for epoch, (steps, weight) in enumerate([(3, -6.0), (2, -9.0)]):  # gradients are 1, 2, 3, then 1, 2
        for rank in range(3):
            assert f"rank {rank} epoch {epoch} took {steps} mean 1.0 weight {weight}." in ended.output


def test_horovod_does_not_wait_for_ever_for_ranks_in_another_collective() -> None:
    program = """
        import torch, hpc_dl
        from hpc_dl.settings import ExchangeSettings
        with hpc_dl.start(ExchangeSettings(engine="horovod", timeout_seconds=8)) as session:
            session.engine.average(torch.ones(1), f"of rank {session.rank}")
    """
    ended = run_ranks(2, program, timeout_seconds=90)
    assert ended.code != 0
    assert "hpc-dl: rank " in ended.output


def test_on_one_process_a_stream_is_taken_whole() -> None:
    import sys

    program = """
import hpc_dl
with hpc_dl.start() as session:
    print([list(session.until_any_ends(range(length))) for length in (0, 1, 4)])
"""
    ended = run([sys.executable, "-c", program])
    assert "[[], [0], [0, 1, 2, 3]]" in ended.output
