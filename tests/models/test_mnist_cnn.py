# SPDX-License-Identifier: Apache-2.0
"""The course's CNN has the layers and the parameters the course counts."""

from __future__ import annotations

import pytest
import torch

from hpc_dl.models.mnist_cnn import MnistCnn


def test_it_has_21840_parameters() -> None:
    counts = [parameter.numel() for parameter in MnistCnn().parameters()]
    assert sum(counts) == 21_840
    assert counts == [250, 10, 5000, 20, 16_000, 50, 500, 10]


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_it_answers_with_log_probabilities(batch: int) -> None:
    output = MnistCnn().eval()(torch.randn(batch, 1, 28, 28))
    assert output.shape == (batch, 10)
    torch.testing.assert_close(output.exp().sum(1), torch.ones(batch))


def test_dropout_acts_in_training_only_and_on_whole_channels() -> None:
    torch.manual_seed(0)
    model, x = MnistCnn(), torch.randn(64, 1, 28, 28)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    channels = model.drop2.train()(torch.ones(50, 20, 8, 8))
    assert set(channels.mean(dim=(2, 3)).unique().tolist()) == {0.0, 2.0}
