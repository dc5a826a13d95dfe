# SPDX-License-Identifier: Apache-2.0
"""Several sessions in one process, as the trials of a search have them: right numbers, or a refusal by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ranks import clean_environment, run_ranks

pytestmark = pytest.mark.parallel

PROGRAM = """
    import sys, torch, hpc_dl
    from hpc_dl.settings import ExchangeSettings
    for trial in range(3):
        with hpc_dl.start(ExchangeSettings(engine=sys.argv[1])) as session:
            model = torch.nn.Linear(4, 1, bias=False)
            torch.nn.init.zeros_(model.weight)
            optimizer = torch.optim.SGD(model.parameters(), 1.0)
            session.distribute(model, optimizer)
            for _ in range(trial + 1):
                optimizer.zero_grad()
                model(torch.full((1, 4), float(session.rank + 1))).sum().backward()
                optimizer.step()
            weights = session.engine.gather(model.weight.detach()[0, 0].item())
            if session.rank == 0:
                print("trial", trial, weights, flush=True)
"""


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_sessions_follow_one_another(engine: str) -> None:
    ended = run_ranks(2, PROGRAM, engine, timeout_seconds=90)
    assert ended.code == 0, ended.output
    for trial in range(3):  # gradients are 1 and 2 on the two ranks
        assert f"trial {trial} [{-1.5 * (trial + 1)}, {-1.5 * (trial + 1)}]" in ended.output


def test_without_mpi4py_horovods_second_session_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('not here')\n")
    environ = clean_environment(PYTHONPATH=str(tmp_path))
    ended = run_ranks(2, PROGRAM, "horovod", timeout_seconds=90, environ=environ)
    assert ended.code != 0
    assert "trial 0 [-1.5, -1.5]" in ended.output
    assert "a second session in one process with engine 'horovod'" in ended.output
    assert "Traceback" not in ended.output
