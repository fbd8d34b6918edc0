"""Laws of sampled classes: which are drawn, that only they are computed, and that only they move."""

from __future__ import annotations

import numpy as np
import paddle
import plain_heads as plain
import pytest

from ppfacerec.heads import HEADS, ArcMargin
from ppfacerec.heads.sampling import sample_classes
from ppfacerec.losses import CELoss
from ppfacerec.optim import OPTIMIZERS, parameter_groups
from ppfacerec.optim.sparse_update import SparseUpdate

D, C, B = 8, 40, 6


def batch(seed=5, labels=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, C, B) if labels is None else labels
    return rng.standard_normal((len(labels), D)).astype("float32") * 10, labels


def test_positives_are_kept_and_negatives_are_as_many_as_asked():
    positives = np.array([0, 7, 8, 39])
    for rate in (0.1, 0.25, 0.5, 0.99, 1.0):
        chosen = sample_classes(C, rate, positives, (0, 1, 2))
        assert set(positives) <= set(chosen)
        assert len(chosen) == max(int(rate * C), 4) == len(set(chosen))
        assert (np.diff(chosen) > 0).all() and chosen[0] >= 0 and chosen[-1] < C


def test_more_positives_than_the_sample_are_all_kept():
    positives = np.arange(0, C, 2)
    np.testing.assert_array_equal(sample_classes(C, 0.1, positives, (0, 0, 0)), positives)
    np.testing.assert_array_equal(sample_classes(C, 0.1, np.arange(C), (0, 0, 0)), np.arange(C))


def test_sample_depends_on_seed_step_and_part_alone():
    keys = [(seed, step, part) for seed in (0, 1) for step in (0, 1) for part in (0, 1)]
    drawn = {tuple(sample_classes(C, 0.5, np.array([3]), key)) for key in keys}
    assert len(drawn) == len(keys)
    np.random.seed(0)
    paddle.seed(0)
    assert {tuple(sample_classes(C, 0.5, np.array([3]), key)) for key in keys} == drawn


def test_every_negative_is_equally_likely():
    positives = np.array([0, 5, 20, 21, 39])
    counts = np.zeros(C)
    for step in range(4000):
        counts[sample_classes(C, 0.25, positives, (0, step, 0))] += 1
    negatives = np.delete(counts, positives)
    assert (counts[positives] == 4000).all()
    expected = 4000 * (10 - 5) / (C - 5)
    assert np.abs(negatives - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize("sparse_update", [True, False])
@pytest.mark.parametrize("head", plain.HEADS, ids=lambda p: p.id)
def test_loss_and_gradient_are_those_of_the_sampled_classes(head, sparse_update):
    x, y = batch()
    ours = HEADS.get(head.name)(D, C, sample_rate=0.4, sparse_update=sparse_update, chunk_size=5, **head.arguments)
    ours.begin_step(3, 11)
    embedding, labels = paddle.to_tensor(x, stop_gradient=False), paddle.to_tensor(y)
    scores = ours(embedding, labels)
    total = CELoss()(scores, labels) + sum(scores.penalties.values())
    total.backward()
    chosen = sample_classes(C, 0.4, np.unique(y), (3, 11, 0))
    x, w = x.astype("float64"), ours.weight.numpy().astype("float64")
    constant = plain.constants(x, w, y)
    assert total.item() == pytest.approx(plain.loss(head, x, w, y, constant, classes=chosen), rel=1e-5)
    if sparse_update:
        gradient, size = np.zeros_like(w), len(chosen)
        gradient[chosen] = ours.active.parameter.grad.numpy()[:size]
        assert not ours.active.parameter.grad.numpy()[size:].any()
    else:
        gradient = ours.weight.grad.numpy()
    assert not np.delete(gradient, chosen, axis=0).any()
    for at, ours_gradient, function in (
        (x, embedding.grad.numpy(), lambda v: plain.loss(head, v, w, y, constant, classes=chosen)),
        (w, gradient, lambda v: plain.loss(head, x, v, y, constant, classes=chosen)),
    ):
        direction = np.random.default_rng(0).standard_normal(at.shape)
        expected = plain.slope(function, at, direction, 1e-6 * np.abs(at).mean())
        tolerance = 2e-5 * float(np.abs(ours_gradient).sum())
        assert (ours_gradient * direction).sum() == pytest.approx(expected, rel=2e-4, abs=tolerance)


def test_evaluation_mode_computes_all_classes():
    x, y = batch()
    paddle.seed(0)
    sampled = ArcMargin(D, C, sample_rate=0.2)
    paddle.seed(0)
    whole = ArcMargin(D, C)
    sampled.eval()
    losses = [
        CELoss()(h(paddle.to_tensor(x), paddle.to_tensor(y)), paddle.to_tensor(y)).item() for h in (sampled, whole)
    ]
    assert losses[0] == losses[1]


def train(head, optimizer_name, num_steps, accumulate=1, clip_norm=None, labels=None):
    """Steps on fixed batches: the weights before each and after the last, and the classes of each."""
    groups = parameter_groups([head], 0.05, False)
    optimizer = OPTIMIZERS.get(optimizer_name)(groups=groups, clip_norm=clip_norm)
    optimizer.set_lr(0.1)
    sparse = SparseUpdate(head.active, optimizer) if head.active else None
    before, touched = [], []
    for step in range(num_steps):
        before.append(head.weight.numpy().copy())
        for part in range(accumulate):
            x, y = batch(100 * step + part, labels)
            head.begin_step(0, step)
            y = paddle.to_tensor(y)
            CELoss()(head(paddle.to_tensor(x), y), y).backward()
        if sparse:
            touched.append(np.sort(head.active.classes))
            with sparse.rows_of_step():
                optimizer.step()
        else:
            optimizer.step()
        optimizer.clear_grad()
    return [*before, head.weight.numpy().copy()], touched


@pytest.mark.parametrize("optimizer", OPTIMIZERS.names())
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("sub_centers", [1, 2])
def test_sparse_update_moves_the_sampled_classes_only(optimizer, accumulate, sub_centers):
    """Neither momentum nor decay touches the others."""
    head = ArcMargin(D, C, sample_rate=0.3, num_sub_centers=sub_centers, scale=16.0)
    weights, touched = train(head, optimizer, 5, accumulate)
    for before, after, classes in zip(weights, weights[1:], touched):
        moved = np.flatnonzero((before != after).reshape(C, -1).any(axis=1))
        np.testing.assert_array_equal(moved, classes)
    assert len(np.unique(np.concatenate(touched))) > 25  # and in the end most have been moved


@pytest.mark.parametrize("clip_norm", [None, 0.01])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.names())
def test_sparse_update_of_all_classes_is_the_optimizers_own(optimizer, clip_norm):
    results = []
    for options in ({"sample_rate": 0.5}, {}):
        paddle.seed(1)
        head = ArcMargin(D, C, scale=16.0, **options)
        results.append(train(head, optimizer, 4, clip_norm=clip_norm, labels=np.arange(C))[0][-1])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6, atol=1e-7)


def test_dense_update_with_sampling_decays_all_classes():
    head = ArcMargin(D, C, sample_rate=0.3, sparse_update=False)
    weights, _ = train(head, "SGD", 1)
    assert (weights[0] != weights[1]).all()


def test_too_many_classes_in_one_step_are_refused_with_the_way_out():
    head = ArcMargin(D, 5000, sample_rate=0.01)
    head.prepare(10)
    labels = paddle.arange(100)
    with pytest.raises(
        ValueError, match=r"100 classes in one step, but there is room for 60; call prepare\(samples of"
    ):
        head(paddle.randn([100, D]), labels).cross_entropy()
