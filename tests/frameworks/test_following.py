# SPDX-License-Identifier: Apache-2.0
"""Frameworks that train in their own way are followed, where they are installed (docs/follow.md names the versions)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpc_dl.runlog.records import read_run
from tests.ranks import Ended, run

FRAMEWORKS = ("lightning", "accelerate", "transformers")


def train(framework: str, ranks: int, folder: Path, *arguments: str) -> Ended:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    words = [sys.executable, *launcher, "-m", "tests.frameworks.programs", framework, str(folder), *arguments]
    return run(words, timeout_seconds=180)


@pytest.mark.parallel
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_training_of_a_framework_is_followed(framework: str, ranks: int, tmp_path: Path) -> None:
    pytest.importorskip(framework)
    ended = train(framework, ranks, tmp_path, "30")
    assert ended.code == 0, ended.output
    assert ended.output.count("the framework has done 30 steps") == ranks
    log = read_run(tmp_path)
    missed = 1 if framework == "transformers" else 0
    assert log.end is not None
    assert (log.end.reason, log.end.steps) == ("finished", 30 - missed)
    assert (log.header.world_size, log.header.global_batch) == (ranks, 16 * ranks)
    assert log.header.exchanged_by == ("hpc_dl" if ranks == 1 else "DistributedDataParallel")
    assert all((window.loss is None) == (framework == "transformers") for window in log.windows)
    phases = log.windows[-1].phases
    assert all(phases[name].mean > 0 for name in ("input", "forward", "backward", "optimizer"))
    assert ranks == 1 or phases["exchange"].mean > 0


@pytest.mark.parallel
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_ranks_of_a_framework_stop_together_and_leave_a_checkpoint(framework: str, tmp_path: Path) -> None:
    pytest.importorskip(framework)
    ended = train(framework, 2, tmp_path, "100000", "10")
    assert ended.code == 0, ended.output
    assert "a signal asked for it" in ended.output
    assert read_run(tmp_path).end.reason == "stopped"
    pattern = {"lightning": "stopped.ckpt", "accelerate": "checkpoints/*.pt", "transformers": "hf/checkpoint-*"}
    assert list(tmp_path.glob(pattern[framework]))
