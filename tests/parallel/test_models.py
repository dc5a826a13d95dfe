# SPDX-License-Identifier: Apache-2.0
"""Models as their owners write them arrive at the same numbers on 1, 2 and 4 ranks, with either engine, to 1e-10."""

from __future__ import annotations

import pytest

from tests.parallel.models import MODELS
from tests.parallel.test_loops import numbers_of

pytestmark = pytest.mark.parallel

TOLERANCES = {"lbfgs_with_checkpointing_and_a_compiler": 1e-6}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[float]]]:
    return numbers_of("tests.parallel.models", "single", 1, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", params=[("horovod", 2), ("torch", 2), ("horovod", 4), ("torch", 4)])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[float]]]:
    return numbers_of("tests.parallel.models", *request.param, tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_ones_own_gives_the_same_numbers(
    name: str, reference: dict[str, list[list[float]]], found: dict[str, list[list[float]]]
) -> None:
    expected = reference[name][0]
    assert found[name][0] == pytest.approx(expected, rel=0, abs=TOLERANCES.get(name, 1e-10))
    assert all(numbers == found[name][0] for numbers in found[name])
