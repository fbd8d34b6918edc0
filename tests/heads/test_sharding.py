"""Laws of which process has which classes; what they compute together is in test_many_processes.py."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from ppfacerec.core import distributed
from ppfacerec.core.device.runtime import agree_on_overflow
from ppfacerec.heads import ArcMargin
from ppfacerec.heads.sharding import BatchGroup, ClassShard


def as_rank(monkeypatch, rank, world_size):
    monkeypatch.setenv("PADDLE_TRAINER_ID", str(rank))
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", str(world_size))


@pytest.mark.parametrize(("class_num", "world_size"), [(1, 1), (5, 2), (5, 3), (5, 5), (93431, 8), (2059906, 24)])
def test_parts_are_contiguous_even_and_have_every_class_once(class_num, world_size):
    parts = [ClassShard(class_num, rank, world_size) for rank in range(world_size)]
    sizes = [part.size for part in parts]
    assert sum(sizes) == class_num and max(sizes) - min(sizes) <= 1
    assert [part.start for part in parts] == [sum(sizes[:rank]) for rank in range(world_size)]
    labels = np.unique(np.random.default_rng(0).integers(0, class_num, 200))
    places = np.array([part.positions(labels) for part in parts])
    assert ((places >= 0).sum(axis=0) == 1).all()
    owner = places.argmax(axis=0)
    np.testing.assert_array_equal(places.max(axis=0) + np.array([p.start for p in parts])[owner], labels)


def test_first_weights_do_not_depend_on_the_number_of_processes(monkeypatch):
    def weights(rank, world_size):
        as_rank(monkeypatch, rank, world_size)
        paddle.seed(4)
        return ArcMargin(4, 5000, num_sub_centers=2, class_parallel=True).weight.numpy()

    one = weights(0, 1)
    for world_size in (2, 3, 7):
        np.testing.assert_array_equal(np.concatenate([weights(r, world_size) for r in range(world_size)]), one)


@pytest.mark.parametrize(
    ("class_num", "asked", "parts", "reason"),
    [
        (
            9_999,
            None,
            1,
            "9999 classes replicated in every process (class_parallel's default: 10,000 classes or more are sharded)",
        ),
        (10_000, None, 4, "10000 classes sharded over 4 processes (class_parallel's default: 10,000 classes or more"),
        (10_000, False, 1, "10000 classes replicated in every process (set by class_parallel)"),
        (50, True, 4, "50 classes sharded over 4 processes (set by class_parallel)"),
    ],
)
def test_classes_are_spread_where_it_pays_and_the_log_says_why(monkeypatch, log_lines, class_num, asked, parts, reason):
    as_rank(monkeypatch, 1, 4)
    head = ArcMargin(2, class_num, class_parallel=asked)
    assert head.shard.world_size == parts
    assert head.weight.is_distributed == (parts > 1)
    assert head.class_rows.saved_shape == (2, class_num)
    assert f"Head: {reason}" in log_lines.text


@pytest.mark.parametrize("overflow_elsewhere", [False, True])
def test_an_overflow_in_one_process_is_seen_by_the_loss_scaler_of_all(monkeypatch, overflow_elsewhere):
    parameters = [paddle.create_parameter([3, 2], "float32") for _ in range(2)]
    parameters[1].is_distributed = True
    (parameters[0].sum() + parameters[1].sum()).backward()
    monkeypatch.setattr(distributed, "any_rank", lambda own: own or overflow_elsewhere)
    agree_on_overflow(parameters)
    assert paddle.isfinite(parameters[0].grad).all().item()  # averaged, so the same in all processes already
    assert paddle.isfinite(parameters[1].grad).all().item() == (not overflow_elsewhere)


def test_fewer_classes_than_processes_are_in_every_process(monkeypatch):
    as_rank(monkeypatch, 1, 4)
    assert ArcMargin(2, 3, class_parallel=True).shard.world_size == 1


def test_dense_logits_of_a_part_are_refused_with_the_way_out(monkeypatch):
    as_rank(monkeypatch, 0, 2)
    monkeypatch.setattr(ClassShard, "batch", lambda self, num_samples: BatchGroup())
    scores = ArcMargin(2, 50, class_parallel=True)(paddle.randn([3, 2]), paddle.to_tensor([0, 1, 2]))
    with pytest.raises(
        ValueError,
        match=r"needs the logits of all 50 classes, but this step computes 25 of them here. Use CELoss, or set "
        r"Arch\.Head\.class_parallel: False and Arch\.Head\.sample_rate: 1\.0\.",
    ):
        scores.dense()
