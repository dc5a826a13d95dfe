# SPDX-License-Identifier: Apache-2.0
"""What is put around the user's parts in a trial: it sees which samples are asked for, what is drawn, and buffers.

The parts themselves stay as they are. All are named in the settings of a trial by import path.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from hpc_dl.comm.sync_batchnorm import SyncBatchNorm
from hpc_dl.data.base import Data, Source
from hpc_dl.data.batch import Batch, leaves
from hpc_dl.data.seeds import seed_all, step_seed
from hpc_dl.data.sharding import Indices
from hpc_dl.session import Session
from hpc_dl.training.imports import call_path

HERE = "hpc_dl.prove.witness"
WORDS_OF_DROPOUT = ("dropout", "dropout_p", "attention_dropout", "attn_dropout", "p_dropout")


def source(source: str, options: Mapping[str, Any], samples: int, evaluation_samples: int) -> Any:
    """The user's data, cut to a few samples, of which the training samples are watched."""
    data = call_path(source, "data.source", options)
    if not isinstance(data, Data):  # refused by the training, in its own words
        return data
    return Data(_Watched(data.train, samples), _Few(data.evaluation, evaluation_samples))


def without_dropout(model: str, options: Mapping[str, Any]) -> Any:
    """The user's model, whose dropout layers, and attributes of that name, have probability 0."""
    made = call_path(model, "task.model", options)
    for module in made.modules() if isinstance(made, nn.Module) else ():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name in WORDS_OF_DROPOUT:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return made


class _Few:
    """The first samples of a source."""

    def __init__(self, source: Source, samples: int) -> None:
        self._source, self._length = source, min(samples, len(source))

    def __getattr__(self, name: str) -> Any:  # hooks may ask the user's own source for more
        if name.startswith("__") or name == "_source":
            raise AttributeError(name)
        return getattr(self._source, name)

    def __len__(self) -> int:
        return self._length

    def batch(self, indices: Indices) -> Batch:
        return self._source.batch(indices)


class _Watched(_Few):
    """Training samples; all that are made in this process are known to its witness."""

    made: list[_Watched] = []

    def __init__(self, source: Source, samples: int) -> None:
        super().__init__(source, samples)
        self.asked: list[int] | None = None
        """Numbers asked for in this epoch; None before the first."""
        self.draws: set[str] = set()
        """What has moved while samples were read."""
        _Watched.made.append(self)

    def batch(self, indices: Indices) -> Batch:
        if self.asked is None:
            return super().batch(indices)
        self.asked.extend(map(int, indices))
        before = _states()
        batch = super().batch(indices)
        self.draws |= {name for name, state in _states().items() if state != before[name]}
        return batch

    def contents(self) -> list[str]:
        """A checksum of every sample, read by itself after the same seed; empty where a second reading differs."""
        pairs = ((self._content(number), self._content(number)) for number in range(len(self)))
        return [first if first == again else "" for first, again in pairs]

    def _content(self, number: int) -> str:
        seed_all(0)
        return _digest(leaves(super().batch(np.array([number], dtype=np.int64))))


class Witness:
    """A hook that writes down, on each rank, what the rows need.

    Args:
        model, optimizer, session: As every hook gets them.
        seed: `training.seed`, from which the seed of a step follows.
        folder: Where `witness-RANK.pt` goes.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, session: Session, seed: int, folder: str
    ) -> None:
        self._model, self._session, self._seed = model, session, seed
        self._path = Path(folder) / f"witness-{session.rank}.pt"
        self._source = _Watched.made[-1]
        self._mode = _Draws()
        self._training: dict[str, Tensor] = {}
        self._epochs: dict[int, list[int]] = {}
        self._draws: list[list[tuple[str, str]]] = []
        self._drawn_in_evaluation = False
        self._contents: list[str] = []

    def on_epoch(self, epoch: int) -> None:
        """Begin to watch."""
        if not self._contents:
            self._contents = self._source.contents()
            self._mode.__enter__()  # type: ignore[no-untyped-call]  # it lasts as long as the process
        self._source.asked = self._epochs[epoch] = []
        self._mode.found.clear()

    def on_step(self, step: int) -> None:
        """What was drawn in this step, and the buffers as they are on this rank."""
        seed = step_seed(self._seed, self._session.rank, step)
        found = [*self._mode.found]
        if repr(np.random.get_state()) != repr(np.random.RandomState(seed % 2**32).get_state()):
            found.append(("numpy.random", _text_digest(repr(np.random.get_state()))))
        if random.getstate() != random.Random(seed).getstate():
            found.append(("random", _text_digest(repr(random.getstate()))))
        self._draws.append(found)
        self._mode.found.clear()
        self._training = {name: buffer.detach().clone() for name, buffer in self._model.named_buffers()}

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Whether an evaluation draws."""
        self._drawn_in_evaluation |= bool(self._mode.found)
        self._mode.found.clear()

    def on_checkpoint(self, step: int) -> None:
        """Write all down; buffers have just been averaged."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        modules = self._model.named_modules()
        layers = {name: m for name, m in modules if isinstance(m, _BatchNorm) and m.training}  # not those frozen
        content = {
            "epochs": self._epochs,
            "contents": self._contents,
            "draws": self._draws,
            "drawn_by_data": sorted(self._source.draws),
            "drawn_in_evaluation": self._drawn_in_evaluation,
            "buffers_in_training": self._training,
            "buffers": {name: buffer.detach().clone() for name, buffer in self._model.named_buffers()},
            "parameters": [name for name, _ in self._model.named_parameters()],
            "checksum": _digest(self._model.parameters()),
            "batch_norms": sorted(layers),
            "local_batch_norms": sorted(n for n, m in layers.items() if not isinstance(m, SyncBatchNorm)),
        }
        torch.save(content, self._path)


class _Draws(TorchDispatchMode):
    """Operations that draw from a generator, and a checksum of the generator's state before.

    Two ranks with the same state before the same operation draw the same numbers, whatever their shapes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[str, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        generator = kwargs.get("generator") or torch.default_generator
        before = generator.get_state()
        result = func(*args, **kwargs)
        if not torch.equal(before, generator.get_state()):  # attention may draw, and does not without dropout
            self.found.append((str(func).removeprefix("aten."), _digest([before])))
        return result


def _states() -> dict[str, str]:
    """Of the generators a data set draws from by default."""
    return {
        "torch": _digest([torch.default_generator.get_state()]),
        "numpy.random": _text_digest(repr(np.random.get_state())),
        "random": _text_digest(repr(random.getstate())),
    }


def _digest(values: Iterable[Any]) -> str:
    """A checksum of tensors, arrays and plain values; of other objects, of what they hold."""
    found = hashlib.blake2b(digest_size=8)
    for value in values:
        if isinstance(value, Tensor):
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, np.ndarray):
            found.update(value.tobytes())
        elif isinstance(value, str | int | float | bool | None):
            found.update(repr(value).encode())
        elif hasattr(value, "__dict__"):
            found.update(_digest(vars(value).values()).encode())
        elif isinstance(value, list | tuple):
            found.update(_digest(value).encode())
    return found.hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
