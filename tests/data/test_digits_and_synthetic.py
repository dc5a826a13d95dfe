# SPDX-License-Identifier: Apache-2.0
"""The digits are scikit-learn's, split the same way every time; made-up samples cost nothing to serve."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from hpc_dl.data import digits, synthetic
from hpc_dl.errors import HpcDlError


def test_digits_are_split_by_class_without_overlap() -> None:
    data = digits.load(form="flat")
    assert len(data.train) + len(data.evaluation) == 1797
    (train, train_classes), (held, held_classes) = (
        source.batch(np.arange(len(source))) for source in (data.train, data.evaluation)
    )
    fractions = torch.bincount(held_classes) / (torch.bincount(held_classes) + torch.bincount(train_classes))
    assert (fractions - 0.2).abs().max() < 0.005
    from sklearn.datasets import load_digits

    reference = np.sort(load_digits().data / 16, axis=0)
    both = np.sort(torch.cat([train, held]).numpy(), axis=0)
    np.testing.assert_allclose(both, reference, atol=1e-7)


def test_the_split_depends_on_its_seed_alone() -> None:
    def held(seed: int) -> torch.Tensor:
        return digits.load(seed=seed).evaluation.batch(np.arange(30))[0]

    assert torch.equal(held(0), held(0))
    assert not torch.equal(held(0), held(1))


@pytest.mark.parametrize(("form", "shape"), [("image28", (1, 28, 28)), ("image8", (1, 8, 8)), ("flat", (64,))])
def test_forms(form: str, shape: tuple[int, ...]) -> None:
    inputs, target = digits.load(form=form).train.batch(np.arange(5))  # type: ignore[arg-type]
    assert (tuple(inputs.shape), inputs.dtype, target.dtype) == ((5, *shape), torch.float32, torch.int64)
    again, itself = digits.load(form=form, target="input").train.batch(np.arange(5))  # type: ignore[arg-type]
    assert torch.equal(again, inputs)
    assert torch.equal(itself, inputs)


def test_shifted_images_are_added_to_the_training_part_only() -> None:
    plain, shifted = digits.load(), digits.load(shift=1)
    assert len(shifted.train) == 5 * len(plain.train)
    assert len(shifted.evaluation) == len(plain.evaluation)
    (image, label), (moved, same) = plain.train.batch(np.array([7])), shifted.train.batch(np.array([7 + 1438]))
    assert torch.equal(moved[0, 0, 1:], image[0, 0, :-1])
    assert torch.equal(same, label)


def test_held_back_fraction_is_checked() -> None:
    with pytest.raises(HpcDlError, match=r"held_back = 1\.5"):
        digits.load(held_back=1.5)


def test_synthetic_images_and_tokens_have_the_shapes_asked_for() -> None:
    images, classes = synthetic.images(channels=2, size=16, classes=5).train.batch(np.arange(7))
    assert images.shape == (7, 2, 16, 16)
    assert 0 <= int(classes.min()) <= int(classes.max()) < 5
    window, following = synthetic.tokens(length=12, vocabulary=9).train.batch(np.arange(3))
    assert window.shape == following.shape == (3, 12)
    assert torch.equal(window[:, 1:], following[:, :-1])


def test_synthetic_batches_are_free_and_may_be_empty() -> None:
    source = synthetic.images(size=64).train
    first = source.batch(np.arange(32))[0]
    start = time.perf_counter()
    for step in range(100):
        assert source.batch(np.arange(step, step + 32))[0].data_ptr() == first.data_ptr()
    assert time.perf_counter() - start < 0.5
    assert source.batch(np.arange(0))[0].shape == (0, 3, 64, 64)


def test_regression_follows_its_weights_and_its_seed() -> None:
    data = synthetic.regression(samples=500, features=4, noise=0.01)
    x, y = (part.double().numpy() for part in data.train.batch(np.arange(500)))
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    held_x, held_y = (part.double().numpy() for part in data.evaluation.batch(np.arange(100)))
    assert np.abs(held_x @ weights - held_y).max() < 0.06
    again = synthetic.regression(samples=500, features=4, noise=0.01).train.batch(np.arange(500))[0]
    assert np.array_equal(again.double().numpy(), x)
