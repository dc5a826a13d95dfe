# SPDX-License-Identifier: Apache-2.0
"""Runs a script that knows nothing of hpc_dl, and follows its training loop from its second step on.

The first step shows what there is: the optimizer that steps, and the module that was called for it. Of several
optimizers, the one with the most parameters counts.
"""

from __future__ import annotations

import runpy
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from hpc_dl.run.follow import Follow
from hpc_dl.run.guest import guest
from hpc_dl.settings import Settings

MOST_STEPS = 3
"""So many steps of a smaller optimizer are waited for the larger one."""


class Discovery:
    """Waits for the first step of the optimizer that counts.

    Args:
        found: Is told the module that was called and the optimizer that has stepped.
    """

    def __init__(self, found: Callable[[nn.Module, Optimizer], None]) -> None:
        self._found = found
        self._made: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._called: dict[int, nn.Module] = {}
        self._steps = 0
        self._hooks: list[RemovableHandle] = [
            register_module_forward_pre_hook(self._calling),
            register_optimizer_step_post_hook(self._stepped),
        ]
        self._init = Optimizer.__init__
        made, init = self._made, self._init

        def noted(optimizer: Optimizer, *arguments: Any, **options: Any) -> None:
            init(optimizer, *arguments, **options)
            made.add(optimizer)

        Optimizer.__init__ = noted  # type: ignore[assignment,method-assign]

    def close(self) -> None:
        """Look for no more."""
        for hook in self._hooks:
            hook.remove()
        Optimizer.__init__ = self._init  # type: ignore[method-assign]
        self._called.clear()

    def _calling(self, module: nn.Module, _arguments: Any) -> None:
        if torch.is_grad_enabled():
            self._called.setdefault(id(module), module)

    def _stepped(self, optimizer: Optimizer, *_: Any) -> None:
        self._steps += 1
        largest = max((_size(other) for other in self._made), default=0)
        if _size(optimizer) < largest and self._steps < MOST_STEPS:
            return
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        # of those that hold as much of what it trains, the first one is the outermost
        model = max(self._called.values(), key=lambda module: _held(module, own), default=None)
        if model is not None and _held(model, own):
            self.close()
            self._found(model, optimizer)


def _size(optimizer: Optimizer) -> int:
    return sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])


def _held(module: nn.Module, parameters: set[int]) -> int:
    return sum(id(parameter) in parameters for parameter in module.parameters())


class Script:
    """A script in this process.

    Args:
        words: The script's file, or -m and a module; then its arguments.
        global_batch: Samples of a step over all ranks; None where the local batch is given.
        local_batch: Samples of a step on each rank.
        folder: Of the log.
        settings: `log`, `checkpoint` and `name`.
    """

    def __init__(
        self,
        words: Sequence[str],
        global_batch: int | None,
        local_batch: int | None,
        folder: str | None,
        settings: Settings,
    ) -> None:
        self._words, self._folder, self._settings = list(words), folder, settings
        self._global_batch, self._local_batch = global_batch, local_batch
        self._run: Follow | None = None

    def __call__(self) -> None:
        """Run it to its end, or until the ranks agree to stop."""
        discovery = Discovery(self._follow)
        begun = time.perf_counter()
        try:
            self._execute()
        except SystemExit as exit:
            self._leave(orderly=not exit.code)
            raise
        except BaseException:
            self._leave(orderly=False)
            raise
        finally:
            discovery.close()
        self._leave(orderly=True)
        if self._run is None:
            print(f"hpc-dl: no optimizer stepped twice in {time.perf_counter() - begun:.0f} s: nothing was followed")

    def _execute(self) -> None:
        if self._words[0] == "-m":
            sys.argv = self._words[1:]
            sys.path.insert(0, "")
            runpy.run_module(self._words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = self._words
            sys.path.insert(0, str(Path(self._words[0]).resolve().parent))
            runpy.run_path(self._words[0], run_name="__main__")

    def _follow(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._session = guest(model)
        batch = self._global_batch or (self._local_batch or 0) * self._session.world_size
        self._run = Follow(
            self._session,
            model,
            optimizer,
            global_batch=batch,
            folder=self._folder,
            state={},
            resume="never",
            settings=self._settings,
        )

    def _leave(self, orderly: bool) -> None:
        if self._run is None:
            return
        self._session.failed = not orderly
        if orderly:
            self._session.close()
        else:
            self._run.abandon()
