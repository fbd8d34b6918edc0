"""Laws of scores: reading them changes nothing, and what a loss cannot see it does not get."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from ppfacerec.core.registry import Spec
from ppfacerec.heads import HEADS
from ppfacerec.losses import CELoss, WeightedSum

NAMES = sorted(HEADS.names())


def build(name, **options):
    paddle.seed(3)
    head = HEADS.build(Spec(name), embedding_size=8, class_num=20, **options)
    head.prepare(16)
    head.begin_step(1, 5)
    return head


def batch():
    rng = np.random.default_rng(2)
    embedding = paddle.to_tensor(rng.standard_normal((6, 8)).astype("float32") * 20)
    return embedding, paddle.to_tensor(rng.integers(0, 20, 6))


def everything(head):
    return {name: tensor.numpy().copy() for name, tensor in head.state_dict().items()}


@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_reading_twice_gives_the_same_and_changes_nothing(name, rate):
    head = build(name, sample_rate=rate)
    scores = head(*batch())
    before = everything(head)
    first = scores.cross_entropy().numpy()
    np.testing.assert_array_equal(scores.cross_entropy().numpy(), first)
    for value in scores.penalties.values():
        value.numpy()
    if rate == 1.0:
        np.testing.assert_array_equal(scores.dense().numpy(), scores.dense().numpy())
    for key, value in everything(head).items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_a_further_loss_of_weight_zero_does_not_change_training(name):
    states = []
    for names in (["CELoss"], ["CELoss", "Again"]):
        head = build(name)
        losses = WeightedSum({n: (CELoss(), float(n == "CELoss")) for n in names})
        values = losses(head(*batch()), batch()[1])
        values["loss"].backward()
        states.append({**everything(head), "gradient": head.weight.grad.numpy()})
    for key in states[0]:
        np.testing.assert_array_equal(states[0][key], states[1][key], err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_in_evaluation_a_forward_changes_nothing(name):
    head = build(name)
    head.eval()
    before = everything(head)
    head(*batch()).cross_entropy()
    for key, value in everything(head).items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


class SquaredLogits(nn.Layer):
    """A loss that needs all logits."""

    def forward(self, logits, labels):
        return paddle.mean(logits**2)


@pytest.mark.parametrize("sparse", [None, False])
def test_logits_of_a_sampled_step_are_refused_for_the_others_would_never_be_trained(sparse):
    head = build("ArcMargin", sample_rate=0.5, sparse_update=sparse)
    losses = WeightedSum({"SquaredLogits": (SquaredLogits(), 1.0)})
    with pytest.raises(
        ValueError,
        match=r"needs the logits of all 20 classes, but this step computes 10 of them here\. Use CELoss, or set "
        r"Arch\.Head\.class_parallel: False and Arch\.Head\.sample_rate: 1\.0\.",
    ):
        losses(head(*batch()), batch()[1])


def test_a_loss_of_all_logits_trains_the_centres():
    head = build("ArcMargin")
    WeightedSum({"SquaredLogits": (SquaredLogits(), 1.0)})(head(*batch()), batch()[1])["loss"].backward()
    assert np.abs(head.weight.grad.numpy()).max() > 0
