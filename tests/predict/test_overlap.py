# SPDX-License-Identifier: Apache-2.0
"""The bucket pipeline equals a plain loop over buckets; the last bucket is never hidden."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_dl.errors import HpcDlError
from hpc_dl.predict.overlap import exposed_seconds, fill_buckets, pipeline_end, uniform_buckets

times = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=30)


@given(times, st.floats(0, 1))
def test_pipeline_equals_the_loop(pairs: list[tuple[float, float]], delay: float) -> None:
    ready = np.sort([r for r, _ in pairs])
    cost = np.array([c for _, c in pairs])
    end = -np.inf
    for r, c in zip(ready, cost, strict=True):
        end = max(r + delay, end) + c
    assert pipeline_end(ready, cost, delay) == pytest.approx(end)


def test_pipelines_are_independent_along_leading_axes() -> None:
    ready = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert pipeline_end(ready, np.array([[0.5, 0.5], [3.0, 0.5]])).tolist() == [1.5, 3.5]


@given(st.floats(1, 1e10), st.floats(1, 1e8), st.floats(0, 10), st.floats(0, 1))
def test_exposed_is_at_least_the_last_bucket(size: float, bucket: float, backward: float, cost: float) -> None:
    buckets = uniform_buckets(size, max(bucket, size / 1000))
    costs = np.full(len(buckets.size_bytes), cost)
    exposed = exposed_seconds(backward, buckets, costs)
    assert cost <= exposed * (1 + 1e-9) + 1e-9
    assert exposed <= costs.sum() * (1 + 1e-9) + 1e-9


def test_bytes_are_kept_and_a_heavy_last_layer_is_ready_first() -> None:
    """VGG-16: 124 of 138 million parameters belong to the dense layers, the first that backward reaches."""
    buckets = fill_buckets([(0.05, 124e6 * 4), (0.95, 14.4e6 * 4)], 25e6)
    assert buckets.total_bytes == pytest.approx(138.4e6 * 4)
    assert buckets.ready[17] < 0.05
    assert buckets.ready[-1] == 1.0
    assert (np.diff(buckets.ready) > 0).all()


def test_sizes_of_nothing_are_refused() -> None:
    with pytest.raises(HpcDlError, match="sizes above 0"):
        uniform_buckets(0, 25e6)
