# SPDX-License-Identifier: Apache-2.0
"""Every sample once, the same global batch at any world size, and refusals that say what to do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hpc_dl.data.sharding import Plan, evaluation_plan, share
from hpc_dl.errors import HpcDlError

worlds = st.integers(1, 9)


@given(count=st.integers(0, 200), world_size=worlds)
def test_shares_tile_the_whole_and_differ_by_at_most_one(count: int, world_size: int) -> None:
    parts = [share(count, world_size, rank) for rank in range(world_size)]
    assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
    assert parts[-1][1] == count
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=60)
@given(
    samples=st.integers(1, 150),
    world_size=worlds,
    extra=st.integers(0, 30),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
def test_ranks_together_see_what_one_process_sees(
    samples: int, world_size: int, extra: int, epoch: int, shuffle: bool
) -> None:
    batch = world_size + extra
    one = Plan(samples=samples, global_batch=batch, seed=7, shuffle=shuffle)
    many = [
        Plan(samples=samples, world_size=world_size, rank=rank, global_batch=batch, seed=7, shuffle=shuffle)
        for rank in range(world_size)
    ]
    seen = []
    for step in range(one.steps_per_epoch):
        whole, size = one.batch(epoch, step)
        parts = [plan.batch(epoch, step) for plan in many]
        assert np.array_equal(np.concatenate([indices for indices, _ in parts]), whole)
        assert {count for _, count in parts} == {size} == {len(whole)}
        seen.append(whole)
    assert sorted(np.concatenate(seen)) == list(range(samples))


@given(samples=st.integers(1, 100), world_size=worlds, local_batch=st.integers(1, 9))
def test_evaluation_counts_every_sample_once(samples: int, world_size: int, local_batch: int) -> None:
    plans = [evaluation_plan(samples, world_size, rank, local_batch) for rank in range(world_size)]
    seen = [index for plan in plans for step in range(plan.steps_per_epoch) for index in plan.batch(0, step)[0]]
    assert sorted(seen) == list(range(samples))
    assert len({plan.steps_per_epoch for plan in plans}) == 1


def test_local_batch_is_per_rank_and_whole_batches_are_even() -> None:
    plan = Plan(samples=100, world_size=4, rank=3, local_batch=8)
    assert plan.step_samples == 32
    indices, size = plan.batch(0, 0)
    assert (len(indices), size, indices.dtype) == (8, 32, np.int64)
    assert [Plan(samples=100, world_size=4, rank=r, local_batch=8).batch(0, 3)[0].size for r in range(4)] == [1] * 4


def test_drop_last_leaves_out_only_the_incomplete_batch() -> None:
    assert Plan(samples=10, global_batch=4, drop_last=True).steps_per_epoch == 2
    assert Plan(samples=8, global_batch=4, drop_last=True).steps_per_epoch == 2
    assert Plan(samples=10, global_batch=4).steps_per_epoch == 3


def test_the_order_changes_with_the_epoch_and_the_seed_only() -> None:
    def order(**changes: int) -> list[int]:
        epoch = changes.pop("epoch", 0)
        return Plan(samples=50, global_batch=50, **changes).batch(epoch, 0)[0].tolist()

    assert order() == order()
    assert order() != order(epoch=1)
    assert order() != order(seed=1)
    assert order(epoch=1) != order(seed=1)


def test_a_shuffled_order_is_uniform() -> None:
    """Each sample stands in each place about equally often (chi-square, 63 degrees of freedom, 99.99 % bound)."""
    counts = np.zeros((8, 8))
    for epoch in range(4000):
        counts[np.arange(8), Plan(samples=8, global_batch=8).batch(epoch, 0)[0]] += 1
    assert ((counts - 500) ** 2 / 500).sum() < 113


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"samples": 0, "global_batch": 1}, "0 samples"),
        ({"samples": 5}, "no batch size"),
        ({"samples": 5, "world_size": 4, "global_batch": 3}, "4 ranks"),
        ({"samples": 5, "global_batch": 8, "drop_last": True}, "only 5 samples"),
        ({"samples": 5, "global_batch": 0}, "out of range"),
        ({"samples": 5, "local_batch": 1, "rank": 1}, "no such rank"),
        ({"samples": 5, "local_batch": 1, "seed": -1}, "seed"),
    ],
)
def test_refusals_name_the_trouble(arguments: dict[str, int], word: str) -> None:
    with pytest.raises(HpcDlError, match=word) as caught:
        Plan(**arguments)
    assert caught.value.remedy


def test_a_step_beyond_the_epoch_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="step 3"):
        Plan(samples=10, global_batch=4).batch(0, 3)


@given(samples=st.integers(2, 150), world_size=worlds, each=st.integers(2, 9), least=st.integers(2, 3))
def test_no_rank_gets_fewer_samples_than_the_model_can_do_with(
    samples: int, world_size: int, each: int, least: int
) -> None:
    batch = world_size * max(each, least)
    rest = samples % batch
    assume(rest == 0 or rest >= least)
    plans = [
        Plan(samples=samples, world_size=world_size, rank=rank, global_batch=batch, least_samples=least)
        for rank in range(world_size)
    ]
    for step in range(plans[0].steps_per_epoch):
        parts = [plan.batch(0, step)[0] for plan in plans]
        assert all(len(part) == 0 or len(part) >= least for part in parts)
        assert np.array_equal(np.concatenate(parts), Plan(samples=samples, global_batch=batch).batch(0, step)[0])


@pytest.mark.parametrize(
    ("samples", "batch", "words"),
    [(33, 16, "(?s)the last one has 1 sample.*drop_last"), (32, 3, "(?s)some get 1 sample.*sync_batchnorm")],
)
def test_single_samples_are_refused_before_the_start_where_they_cannot_be_avoided(
    samples: int, batch: int, words: str
) -> None:
    with pytest.raises(HpcDlError, match=words):
        Plan(samples=samples, world_size=2, global_batch=batch, least_samples=2)


def test_without_the_incomplete_batch_nobody_minds_its_single_sample() -> None:
    Plan(samples=33, world_size=2, global_batch=16, least_samples=2, drop_last=True)
