"""Laws of the training order."""

from __future__ import annotations

import numpy as np
import pytest

from ppfacerec.data.loading.sampler import DistributedBatchSampler


def epoch_of(num_samples, batch_size, world_size, epoch=3, start=0, **options):
    """Per step, the samples of all ranks in rank order."""
    ranks = [
        DistributedBatchSampler(num_samples, batch_size, rank=rank, world_size=world_size, seed=5, **options)
        for rank in range(world_size)
    ]
    return [np.concatenate(parts) for parts in zip(*(r.batches(epoch, start) for r in ranks))]


def test_global_order_does_not_depend_on_the_number_of_ranks():
    one = np.concatenate(epoch_of(100, 12, 1))
    for world_size, batch_size in ((2, 6), (3, 4), (4, 3)):
        np.testing.assert_array_equal(np.concatenate(epoch_of(100, batch_size, world_size)), one)


def test_an_epoch_has_every_sample_once():
    assert sorted(np.concatenate(epoch_of(103, 5, 2))) == list(range(103))


def test_a_rest_smaller_than_the_number_of_ranks_is_left_out():
    steps = epoch_of(33, 4, 4)
    assert [len(s) for s in steps] == [16, 16]
    steps = epoch_of(38, 4, 4)
    assert [len(s) for s in steps] == [16, 16, 6]


def test_every_rank_has_a_sample_in_every_step():
    for rank in range(4):
        sampler = DistributedBatchSampler(38, 4, rank=rank, world_size=4)
        assert min(len(b) for b in sampler.batches(0)) > 0
        assert len(list(sampler.batches(0))) == len(sampler) == 3


def test_step_size_is_what_the_ranks_have_together():
    sampler = DistributedBatchSampler(38, 4, world_size=4)
    assert [sampler.step_size(step) for step in range(3)] == [len(s) for s in epoch_of(38, 4, 4)]


def test_epochs_differ_and_repeat_by_seed():
    first, second = np.concatenate(epoch_of(50, 5, 1, epoch=1)), np.concatenate(epoch_of(50, 5, 1, epoch=2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, np.concatenate(epoch_of(50, 5, 1, epoch=1)))


def test_resumed_epoch_goes_on_where_it_stopped():
    whole, rest = epoch_of(50, 6, 1), epoch_of(50, 6, 1, start=4)
    np.testing.assert_array_equal(np.concatenate(whole[4:]), np.concatenate(rest))


def test_drop_last_leaves_out_the_smaller_step():
    assert [len(s) for s in epoch_of(50, 8, 1, drop_last=True)] == [8] * 6


def test_without_shuffle_the_order_is_the_files():
    np.testing.assert_array_equal(np.concatenate(epoch_of(10, 3, 1, shuffle=False)), np.arange(10))


def test_too_few_samples_are_an_error():
    with pytest.raises(ValueError, match="3 samples make no batch of 8 on each of 4 processes; use a smaller"):
        DistributedBatchSampler(3, 8, world_size=4)
    with pytest.raises(ValueError, match="5 samples make no batch of 8 on each of 1 processes"):
        DistributedBatchSampler(5, 8, drop_last=True)
