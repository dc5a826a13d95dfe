# SPDX-License-Identifier: Apache-2.0
"""A loop of one's own gets the log, the report, the stop and the checkpoint (`loop.py`)."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hpc_dl
from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints
from hpc_dl.runlog.records import read_run
from hpc_dl.settings import CheckpointSettings, DeviceSettings, LogSettings, Settings
from tests.ranks import hpc_dl as command
from tests.ranks import run as start
from tests.ranks import run_ranks

WORDS = [sys.executable, "-m", "tests.run.loop"]


def result(folder: Path) -> dict[str, object]:
    return json.loads((folder / "result.json").read_text())


def off(folder: Path, other: Path) -> float:
    pairs = zip(result(folder)["numbers"], result(other)["numbers"], strict=True)
    return max(abs(a - b) for a, b in pairs)


def loop(ranks: int, folder: Path, *options: str) -> None:
    ended = run_ranks(ranks, WORDS, str(folder), *options) if ranks > 1 else start([*WORDS, str(folder), *options])
    assert ended.code == 0, ended.output


@pytest.mark.parallel
@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_any_number_of_ranks_ends_where_one_process_does(engine: str, tmp_path: Path) -> None:
    loop(1, tmp_path / "one", "--no-dropout")
    for ranks in (2, 4):
        loop(ranks, tmp_path / str(ranks), "--no-dropout", "--engine", engine)
        assert off(tmp_path / str(ranks), tmp_path / "one") < 1e-10
    one, two = (read_run(tmp_path / name) for name in ("one", "2"))
    assert two.header.world_size == 2
    assert [window.loss for window in two.windows] == pytest.approx([window.loss for window in one.windows], rel=1e-10)
    assert two.evaluations[-1].samples == 240
    reported = start(
        command("report", *(str(tmp_path / name) for name in ("one", "2", "4")), "--output", str(tmp_path / "report"))
    )
    assert reported.code == 0, reported.output
    assert "Efficiency" in reported.output


@pytest.mark.parallel
def test_a_signal_stops_all_ranks_and_the_same_command_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Within an epoch; with dropout, a schedule and averaged weights."""
    long = ("--epochs", "400")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    loop(2, cut, *long, "--kill-at", "14")
    stopped = read_run(cut).end
    assert stopped is not None
    assert stopped.reason == "stopped"
    assert result(cut)["stopped"] == "a signal asked for it"
    end = str(stopped.steps + 25)
    loop(2, cut, *long, "--steps", end)
    loop(2, whole, *long, "--steps", end)
    assert result(cut) == result(whole)


def test_it_goes_on_at_another_world_size(tmp_path: Path) -> None:
    loop(1, tmp_path / "changes", "--no-dropout", "--steps", "13")
    loop(2, tmp_path / "changes", "--no-dropout", "--steps", "27")
    loop(1, tmp_path / "one", "--no-dropout", "--steps", "27")
    assert off(tmp_path / "changes", tmp_path / "one") < 1e-10


def small(session: hpc_dl.Session) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(2, 1)
    return session.distribute(model, torch.optim.SGD(model.parameters(), 0.1))


QUIET = Settings(log=LogSettings(progress="none", window_steps=2, warmup_steps=0))
CPU = DeviceSettings(name="cpu", threads=1)


def test_a_run_without_a_model_is_refused(tmp_path: Path) -> None:
    with hpc_dl.start(device=CPU) as session, pytest.raises(HpcDlError, match="no model is distributed"):
        hpc_dl.Run(session, {}, global_batch=4, folder=tmp_path)


def test_a_checkpoint_of_other_parts_is_refused_by_their_names(tmp_path: Path) -> None:
    with hpc_dl.start(device=CPU) as session:
        model, optimizer = small(session)
        with hpc_dl.Run(session, {"model": model}, global_batch=4, folder=tmp_path, settings=QUIET) as run:
            for _ in run.steps([1, 2]):
                optimizer.step()
        again = hpc_dl.Run(session, {"net": model}, global_batch=4, folder=tmp_path, settings=QUIET)
        with pytest.raises(HpcDlError, match="holds model, and the run's state is net"), again:
            pass


def test_another_global_batch_within_an_epoch_is_refused(tmp_path: Path) -> None:
    with hpc_dl.start(device=CPU) as session:
        model, _ = small(session)
        with hpc_dl.Run(session, {"model": model}, global_batch=4, steps=3, folder=tmp_path, settings=QUIET) as run:
            for _ in run.steps(range(9)):
                pass
        assert run.position.epoch_samples == 12
        again = hpc_dl.Run(session, {"model": model}, global_batch=5, folder=tmp_path, settings=QUIET)
        with pytest.raises(HpcDlError, match="a global batch of 5"), again:
            pass


def test_batches_of_a_function_begin_at_the_first_step_that_is_left(tmp_path: Path) -> None:
    seen: list[int] = []
    with hpc_dl.start(device=CPU) as session:
        model, _ = small(session)
        for steps in (3, 9):
            run = hpc_dl.Run(session, {"model": model}, global_batch=4, steps=steps, folder=tmp_path, settings=QUIET)
            with run:
                for epoch in run.epochs():
                    seen += run.steps(lambda first, epoch=epoch: range(100 * epoch + first, 100 * epoch + 5))
    assert seen == [0, 1, 2, 3, 4, 100, 101, 102, 103]


def test_an_error_in_the_loop_leaves_the_checkpoint_of_before(tmp_path: Path) -> None:
    settings = Settings(log=QUIET.log, checkpoint=CheckpointSettings(every_steps=2))
    with hpc_dl.start(device=CPU) as session:
        model, _ = small(session)
        run = hpc_dl.Run(session, {"model": model}, global_batch=4, folder=tmp_path, settings=settings)
        with pytest.raises(ZeroDivisionError), run:
            _ = [1 // (3 - number) for number in run.steps(range(9))]
    assert Checkpoints(tmp_path, 1).newest()["position"]["step"] == 2


def test_an_epoch_without_a_step_is_refused_instead_of_repeated_for_ever(tmp_path: Path) -> None:
    with hpc_dl.start(device=CPU) as session:
        model, _ = small(session)
        run = hpc_dl.Run(session, {"model": model}, global_batch=4, epochs=2, folder=tmp_path, settings=QUIET)
        with pytest.raises(HpcDlError, match="took no step"), run:
            list(run.epochs())


def test_random_batches_are_the_same_after_a_resume(tmp_path: Path) -> None:
    def augmented(count: int) -> Iterator[float]:
        for _ in range(count):
            yield float(torch.rand(()))

    def drawn(folder: Path, *ends: int) -> list[float]:
        seen: list[float] = []
        with hpc_dl.start(device=CPU) as session:
            model, _ = small(session)
            for steps in ends:
                run = hpc_dl.Run(session, {"model": model}, global_batch=4, steps=steps, folder=folder, settings=QUIET)
                with run:
                    for batch in run.steps(augmented(9)):
                        seen += [batch, float(torch.rand(()))]  # the step draws, too
        return seen

    assert drawn(tmp_path / "cut", 3, 7) == drawn(tmp_path / "whole", 7)


def test_models_are_not_kept_by_the_session() -> None:
    with hpc_dl.start(device=CPU) as session:
        for _ in range(3):
            model, _ = small(session)
        gc.collect()
        assert [part.model for part in session.distributed] == [model]
        assert session.exchange_of(model) is session.exchange
        with pytest.raises(HpcDlError, match="none of those that were distributed"):
            session.exchange_of(nn.Linear(1, 1))


def test_the_parts_of_a_step_are_told_apart(tmp_path: Path) -> None:
    """On one process; each takes a time of its own."""

    def batches() -> Iterator[torch.Tensor]:
        for _ in range(4):
            time.sleep(0.02)
            yield torch.ones(1, 2)

    with hpc_dl.start(device=CPU) as session:
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        session.distribute(model, optimizer)
        model.register_forward_pre_hook(lambda *_: time.sleep(0.04))
        model.weight.register_hook(lambda _: time.sleep(0.06))
        with hpc_dl.Run(session, {"model": model}, global_batch=4, folder=tmp_path, settings=QUIET) as run:
            for batch in run.steps(batches()):
                loss = model(batch).sum()
                loss.backward()
                optimizer.step()
                time.sleep(0.03)
                run.record(loss)
    window = read_run(tmp_path).windows[-1]
    parts = {name: spread.mean / window.steps for name, spread in window.phases.items()}
    for name, seconds in {"input": 0.02, "forward": 0.04, "backward": 0.06, "other": 0.03}.items():
        assert seconds <= parts[name] < seconds + 0.015, parts
    assert sum(parts.values()) == pytest.approx(window.seconds.mean / window.steps)


def test_a_run_is_of_the_models_in_its_state(tmp_path: Path) -> None:
    """Others of the session, as of a trial before, are not its own."""
    with hpc_dl.start(device=CPU) as session:
        for width, rate in ((10, 0.1), (20, 0.2)):
            model = nn.Linear(width, 1)
            optimizer = torch.optim.SGD(model.parameters(), rate)
            session.distribute(model, optimizer)
            model.itself = [model]  # a cycle: it outlives its turn
            state = {"model": model, "optimizer": optimizer}
            folder = tmp_path / str(width)
            with hpc_dl.Run(session, state, global_batch=8, steps=1, folder=folder, settings=QUIET) as run:
                for _ in run.steps([1]):
                    optimizer.step()
        header = read_run(tmp_path / "20").header
    assert header.parameters == 21
    assert read_run(tmp_path / "20").windows[0].learning_rate == 0.2


def test_a_weight_is_no_number_of_samples(tmp_path: Path) -> None:
    with hpc_dl.start(device=CPU) as session:
        model, _ = small(session)
        with hpc_dl.Run(session, {"model": model}, global_batch=4, folder=tmp_path, settings=QUIET) as run:
            for tokens in run.steps([100, 300, 500, 500]):
                run.record(float(tokens), weight=tokens, shift=2.0 * tokens)
    window = read_run(tmp_path).windows[1]
    assert (window.steps, window.samples) == (2, 8)
    assert window.loss == pytest.approx((300 * 300 + 500 * 500) / 800)
    assert window.terms == {"shift": pytest.approx(2 * (300 * 300 + 500 * 500) / 800)}


def test_a_loader_tells_the_size_of_a_ragged_batch(tmp_path: Path) -> None:
    with hpc_dl.start(device=CPU) as session:
        model, _ = small(session)
        loader = session.loader(list(range(10)), global_batch=4, shuffle=False)  # type: ignore[arg-type]
        settings = Settings(log=LogSettings(progress="none", window_steps=1, warmup_steps=0))
        run = hpc_dl.Run(session, {"model": model}, global_batch=4, epochs=2, folder=tmp_path, settings=settings)
        with run:
            for _ in run.epochs():
                for batch in run.steps(loader):
                    run.record(batch.double().mean())
        assert run.position.samples == 20
    assert [window.samples for window in read_run(tmp_path).windows] == [4, 4, 2, 4, 4, 2]


@pytest.mark.parametrize("kind", [hpc_dl.Run, hpc_dl.Follow])
def test_a_loader_goes_on_in_the_epoch_that_is_resumed_and_reads_nothing_twice(kind: Any, tmp_path: Path) -> None:
    class Counting(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, number: int) -> int:
            asked.append(number)
            return number

    def run(steps: int, folder: Path) -> list[list[int]]:
        seen = []
        with hpc_dl.start(device=CPU) as session:
            model, optimizer = small(session)
            loader = session.loader(Counting(), global_batch=4)
            options = {"global_batch": 4, "steps": steps, "folder": folder, "settings": QUIET}
            state = {"model": model}
            made = kind(session, state, **options) if kind is hpc_dl.Run else kind(session, model, optimizer, **options)
            with made as run:
                while not run.over:
                    for batch in run.steps(loader) if kind is hpc_dl.Run else run.batches(loader):
                        seen.append(batch.tolist())
                        model(torch.ones(1, 2)).sum().backward()
                        optimizer.step()
        return seen

    asked: list[int] = []
    whole = run(7, tmp_path / "whole")
    assert whole[:3] != whole[3:6]
    asked.clear()
    assert run(5, tmp_path / "cut") + run(7, tmp_path / "cut") == whole
    assert len(asked) == 7 * 4


@pytest.mark.parallel
def test_the_example_runs_is_resumed_and_reported(tmp_path: Path) -> None:
    example = [sys.executable, str(Path(__file__).parents[2] / "examples" / "own_run.py")]
    words = ["env", "-C", str(tmp_path), "HPC_DL_RUN_FOLDER=runs/tides-2", *example]
    first = run_ranks(2, words)
    assert first.code == 0, first.output
    again = run_ranks(2, words)
    assert "resumed runs/tides-2 after step 640" in again.output
    assert read_run(tmp_path / "runs" / "tides-2").header.global_batch == 128
