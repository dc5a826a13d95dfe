# SPDX-License-Identifier: Apache-2.0
"""The weights of losses over classes, against torch's own sums."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from hpc_dl.training.weighing import over_classes

WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.25], dtype=torch.float64)


@pytest.mark.parametrize(
    "options", [{}, {"weight": WEIGHTS}, {"ignore_index": 1}, {"weight": WEIGHTS, "ignore_index": 3}]
)
@pytest.mark.parametrize("places", [(), (6,), (3, 2)])
@pytest.mark.parametrize("kind", ["module", "function"])
def test_the_weight_is_what_torch_divides_by(options: dict[str, Any], places: tuple[int, ...], kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    output = torch.randn(9, 4, *places, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (9, *places), generator=generator)
    if "ignore_index" not in options:
        target[target == 2] = -100
    loss = nn.CrossEntropyLoss(**options)
    given = functools.partial(functional.cross_entropy, **options) if kind == "function" else loss
    known = over_classes(given, target)
    assert known is not None
    together = functional.cross_entropy(output, target, reduction="sum", **options)
    torch.testing.assert_close(together / known.of(target).sum(), loss(output, target))
    each = known.of(target)
    assert each.shape == (9,)
    assert [over_classes(given, target).of(part).sum() for part in target.split(4)] == [p.sum() for p in each.split(4)]


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(reduction="sum"),
        nn.MSELoss(),
        functional.mse_loss,
        functools.partial(functional.cross_entropy, reduction="none"),
        lambda output, target: functional.cross_entropy(output, target),
    ],
)
def test_of_other_losses_nothing_is_assumed(loss: Any) -> None:
    assert over_classes(loss, torch.zeros(3, dtype=torch.int64)) is None


def test_class_probabilities_are_a_mean_over_samples() -> None:
    assert over_classes(nn.CrossEntropyLoss(ignore_index=-1), torch.full((3, 4), 0.25)) is None
