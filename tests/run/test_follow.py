# SPDX-License-Identifier: Apache-2.0
"""A loop that stays as it is gets the log, the split of a step, the stop and the checkpoint."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import hpc_dl
from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints
from hpc_dl.runlog.records import read_parts, read_run
from hpc_dl.settings import CheckpointSettings, DeviceSettings, LogSettings, Settings
from tests.ranks import run as start
from tests.ranks import run_ranks

CPU = DeviceSettings(name="cpu", threads=1)
QUIET = Settings(log=LogSettings(progress="none", window_steps=2, warmup_steps=0))


@pytest.fixture
def session() -> Iterator[hpc_dl.Session]:
    with hpc_dl.start(device=CPU) as started:
        yield started


def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return model, torch.optim.Adam(model.parameters(), 0.01)


def batch(number: int) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(number))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> Tensor:
    optimizer.zero_grad()
    loss = model(batch(number)).square().mean()
    loss.backward()
    optimizer.step()
    return loss


def test_a_followed_loop_is_the_loop_it_was(session: hpc_dl.Session, tmp_path: Path) -> None:
    """With dropout: no random number is drawn or seeded behind the loop's back."""
    found = []
    for followed in (False, True):
        model, optimizer = parts()
        model.insert(1, nn.Dropout(0.3))
        run = hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=QUIET)
        if not followed:
            run.close()
        losses = []
        for number in range(5):
            losses.append(step(model, optimizer, number).detach())
            if followed:
                run.record(losses[-1])
        run.close()
        found.append(weights(model))
    assert torch.equal(*found)
    log = read_run(tmp_path)
    assert log.end is not None
    assert (log.end.reason, log.end.steps, log.end.samples) == ("finished", 5, 30)
    assert log.windows[-1].loss == pytest.approx(sum(map(float, losses[-2:])) / 2)
    assert not model._forward_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_loss_that_nobody_tells_is_not_made_up(session: hpc_dl.Session, tmp_path: Path) -> None:
    model, optimizer = parts()
    with hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=QUIET) as run:
        for number in range(6):
            loss = step(model, optimizer, number)
            if number == 2:
                run.record(loss)
                told = float(loss.detach())
    assert [window.loss for window in read_run(tmp_path).windows] == [None, pytest.approx(told), None, None]


def test_a_run_whose_loop_tells_no_loss_has_none(session: hpc_dl.Session, tmp_path: Path) -> None:
    model, optimizer = session.distribute(*parts())
    with hpc_dl.Run(session, {"model": model}, global_batch=6, folder=tmp_path, settings=QUIET) as run:
        for number in run.steps(range(4)):
            step(model, optimizer, number)
    assert {window.loss for window in read_run(tmp_path).windows} == {None}


def test_the_parts_of_a_step_are_told_apart(session: hpc_dl.Session, tmp_path: Path) -> None:
    """Two parts to each step, and an evaluation, which belongs to none."""
    model, optimizer = parts()
    model[0].register_forward_pre_hook(lambda *_: time.sleep(0.03 if torch.is_grad_enabled() else 0.2))
    with hpc_dl.Follow(session, model, optimizer, global_batch=12, folder=tmp_path, settings=QUIET):
        model[0].weight.register_hook(lambda _: time.sleep(0.06))
        for number in range(4):
            for part in range(2):
                time.sleep(0.02)
                model(batch(2 * number + part)).square().mean().backward()
            time.sleep(0.03)  # as clipping would
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                model(batch(0))
    for window in read_run(tmp_path).windows:
        found = {name: spread.mean / window.steps for name, spread in window.phases.items()}
        for name, seconds in {"input": 0.04, "forward": 0.06, "backward": 0.12, "optimizer": 0.03}.items():
            assert seconds <= found[name] < seconds + 0.025, found
        assert sum(found.values()) == pytest.approx(window.seconds.mean / window.steps)
        assert sum(window.step_seconds) == pytest.approx(window.seconds.mean)


def loop_of_epochs(run: hpc_dl.Follow, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: object) -> None:
    """Parts of two make a step; the schedule steps behind the optimizer."""
    for epoch in range(run.position.epoch, 3):
        for number in run.batches(range(10 * epoch, 10 * epoch + 8)):
            model(batch(number)).square().mean().backward()
            if number % 2:
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()  # type: ignore[attr-defined]


@pytest.mark.parametrize("cut", [3, 4])
def test_it_goes_on_within_an_epoch_with_its_schedule(session: hpc_dl.Session, tmp_path: Path, cut: int) -> None:
    found = []
    for ends in ((None,), (cut, None)):
        for end in ends:
            model, optimizer = parts()
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
            state = {"model": model, "optimizer": optimizer, "schedule": schedule}
            folder = tmp_path / str(len(ends))
            options = {"state": state, "global_batch": 12, "steps": end, "folder": folder, "settings": QUIET}
            with hpc_dl.Follow(session, model, optimizer, **options) as run:
                loop_of_epochs(run, model, optimizer, schedule)
        found.append(weights(model))
        assert (run.position.step, run.position.epoch) == (12, 3)
    assert torch.equal(*found)


def test_random_numbers_of_a_seed_are_the_same_after_a_resume(session: hpc_dl.Session, tmp_path: Path) -> None:
    def drawn(folder: Path, *ends: int) -> list[float]:
        seen: list[float] = []
        for end in ends:
            model, optimizer = parts()
            options = {"global_batch": 6, "steps": end, "folder": folder, "settings": QUIET, "seed": 3}
            with hpc_dl.Follow(session, model, optimizer, **options) as run:
                for number in run.batches(range(9)):
                    model(batch(number)).mean().backward()
                    seen.append(float(torch.rand(())))
                    optimizer.step()
        return seen

    assert drawn(tmp_path / "cut", 3, 7) == drawn(tmp_path / "whole", 7)


def test_a_step_that_the_scaler_skips_is_none(session: hpc_dl.Session, tmp_path: Path) -> None:
    model, optimizer = parts()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    with hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=QUIET) as run:
        for number in range(5):
            optimizer.zero_grad()
            scaler.scale(model(batch(number) * (torch.inf if number == 2 else 1)).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
    assert run.position.step == 4


def test_a_closure_is_called_as_often_as_it_likes(session: hpc_dl.Session, tmp_path: Path) -> None:
    model, _ = parts()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
    losses = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(batch(0)).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        return loss

    with hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=QUIET) as run:
        for _ in range(3):
            run.record(optimizer.step(closure))
    assert run.position.step == 3
    assert len(losses) > 3
    window = read_run(tmp_path).windows[-1]
    assert all(window.phases[name].mean > 0 for name in ("forward", "backward", "optimizer"))


def test_a_model_that_is_called_by_another_name_has_no_made_up_split(session: hpc_dl.Session, tmp_path: Path) -> None:
    model, optimizer = parts()
    with hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=QUIET):
        for number in range(4):
            time.sleep(0.02)
            model.forward(batch(number)).square().mean().backward()
            optimizer.step()
    for window in read_run(tmp_path).windows:
        assert window.phases["other"].mean >= 0.02
        assert window.phases["input"].mean == window.phases["forward"].mean == window.phases["backward"].mean == 0


def test_of_two_optimizers_one_counts(session: hpc_dl.Session, tmp_path: Path) -> None:
    model, optimizer = parts()
    judge, other = parts()
    with hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=QUIET) as run:
        for number in range(4):
            for _ in range(2):
                judge(model(batch(number)).detach().expand(6, 4)).mean().backward()
                other.step()
            judge(model(batch(number)).expand(6, 4)).mean().backward()
            optimizer.step()
    assert run.position.step == 4


def test_a_compiled_model_is_followed(session: hpc_dl.Session, tmp_path: Path) -> None:
    model, optimizer = parts()
    model.compile(backend="eager")
    with hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=QUIET):
        for number in range(4):
            step(model, optimizer, number)
    assert read_run(tmp_path).windows[-1].phases["forward"].mean > 0
    assert model(batch(0)).shape == (6, 1)


def test_a_signal_leaves_the_loop_with_a_checkpoint(session: hpc_dl.Session, tmp_path: Path) -> None:
    model, optimizer = parts()
    with hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=QUIET) as run:
        for number in range(10**9):
            step(model, optimizer, number)
            if number == 5:
                os.kill(os.getpid(), signal.SIGUSR1)
    assert run.stopped == "a signal asked for it"
    end = read_run(tmp_path).end
    assert end is not None
    assert end.reason == "stopped"
    assert Checkpoints(tmp_path, 1).newest()["position"]["step"] == run.position.step == end.steps


def test_an_error_in_the_loop_leaves_the_checkpoint_of_before(session: hpc_dl.Session, tmp_path: Path) -> None:
    settings = Settings(log=QUIET.log, checkpoint=CheckpointSettings(every_steps=2))
    model, optimizer = parts()
    run = hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=settings)
    with pytest.raises(ZeroDivisionError), run:
        _ = [step(model, optimizer, number) / (1 // (3 - number)) for number in range(9)]
    assert Checkpoints(tmp_path, 1).newest()["position"]["step"] == 2
    assert read_run(tmp_path).end is None


def test_a_loss_that_is_no_number_ends_the_run(session: hpc_dl.Session, tmp_path: Path) -> None:
    model, optimizer = parts()
    run = hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=QUIET)
    with pytest.raises(HpcDlError, match="the mean loss of the steps from 0 on is nan"), run:
        _ = [run.record(step(model, optimizer, number) * torch.nan) for number in range(9)]


def test_the_session_closes_what_nobody_has_closed(tmp_path: Path) -> None:
    with hpc_dl.start(device=CPU) as session:
        model, optimizer = parts()
        run = hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path, settings=QUIET)
        step(model, optimizer, 0)
    assert read_run(tmp_path).end is not None
    assert run.position.step == 1


PROGRAM = """
import sys, hpc_dl, torch
from hpc_dl.settings import DeviceSettings
session = hpc_dl.start(device=DeviceSettings(name="cpu", threads=1))
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
run = hpc_dl.Follow(session, model, optimizer, global_batch=1, folder=sys.argv[1])
model(torch.ones(1, 2)).sum().backward()
optimizer.step()
if len(sys.argv) > 2:
    raise ValueError("a mistake")
"""


def test_at_the_end_of_the_process_nobody_knows_whether_the_loop_was_done(tmp_path: Path) -> None:
    ended = start([sys.executable, "-c", PROGRAM, str(tmp_path / "one")])
    assert ended.code == 0, ended.output
    assert read_run(tmp_path / "one").end.reason == "exited"
    assert start([sys.executable, "-c", PROGRAM, str(tmp_path / "two"), "fail"]).code == 1
    assert read_run(tmp_path / "two").end is None


LINE = """
import os, signal, sys, hpc_dl, torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
run = hpc_dl.follow(model, optimizer, global_batch=1, folder=sys.argv[1])
try:
    while run.position.step < 10**9:
        model(torch.ones(1, 2)).sum().mul(0).backward()
        optimizer.step()
        if run.position.step == 5:
            os.kill(os.getpid(), signal.SIGUSR1)
    print("never reached")
except Exception:
    print("no exception of this kind")
finally:
    print("and what the loop does at its end")
"""


def test_a_loop_that_says_nothing_else_is_left_by_the_exit_of_the_process(tmp_path: Path) -> None:
    ended = start([sys.executable, "-c", LINE, str(tmp_path)])
    assert ended.code == 0, ended.output
    assert "with a checkpoint: a signal asked for it; the same command goes on" in ended.output
    assert "and what the loop does at its end" in ended.output
    assert "no exception" not in ended.output
    assert "never reached" not in ended.output
    assert read_run(tmp_path).end.reason == "stopped"


def test_an_optimizer_that_calls_no_hooks_is_refused(session: hpc_dl.Session, tmp_path: Path) -> None:
    model, optimizer = parts()
    optimizer.params_attr = {}  # as those of IPEX have
    with pytest.raises(HpcDlError, match="its steps call no hooks"):
        hpc_dl.Follow(session, model, optimizer, global_batch=6, folder=tmp_path)


RANKS = [sys.executable, "-m", "tests.run.followed"]


@pytest.mark.parallel
@pytest.mark.parametrize(("kind", "by"), [("ours", "hpc_dl"), ("ddp", "DistributedDataParallel")])
def test_ranks_stop_after_the_same_step_and_go_on(tmp_path: Path, kind: str, by: str) -> None:
    ended = run_ranks(2, [*RANKS, str(tmp_path), kind, "--kill-at", "7"])
    assert ended.code == 0, ended.output
    assert "stopped after step" in ended.output
    again = run_ranks(2, [*RANKS, str(tmp_path), kind, "--steps", "400"])
    assert again.code == 0, again.output
    assert "resumed" in again.output
    (first, second), _ = read_parts(tmp_path)
    assert first.header.exchanged_by == by
    assert second.windows[0].first_step == first.end.steps
    assert all(window.phases["exchange"].mean > 0 for window in second.windows)


@pytest.mark.parallel
@pytest.mark.horovod
def test_a_loop_with_horovods_own_optimizer_is_followed(tmp_path: Path) -> None:
    ended = run_ranks(2, [*RANKS, str(tmp_path), "horovod", "--steps", "30"])
    assert ended.code == 0, ended.output
    run = read_run(tmp_path)
    assert (run.header.exchanged_by, run.end.steps) == ("Horovod", 30)
    assert all(window.phases["exchange"].mean > 0 for window in run.windows)
