from __future__ import annotations

import numpy as np
import paddle
import pytest
from backbone_reference import actual_table, assert_features_equal, key_table, reference_state

from ppfacerec.backbones.iresnet import FixedScaleBatchNorm1D, IResNet18, IResNet34, IResNet50, IResNet100, IResNet200


@pytest.mark.parametrize(("build", "table"), [(IResNet18, "iresnet18_512"), (IResNet50, "iresnet50_512")])
def test_state_dict_has_insightface_keys_and_shapes_in_order(build, table):
    assert list(actual_table(build()).items()) == list(key_table(table).items())


def test_blocks_per_stage_are_insightface_s():
    depths = [net.depths for net in (IResNet18, IResNet34, IResNet50, IResNet100, IResNet200)]
    assert depths == [(2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 14, 3), (3, 13, 30, 3), (6, 26, 60, 6)]


@pytest.mark.slow
def test_features_equal_insightface():
    net = IResNet18()
    missing, unexpected = net.set_state_dict(reference_state("iresnet18_512", gain=0.7, pytorch=True))
    assert (missing, unexpected) == ([], [])
    assert_features_equal(net, "iresnet18_insightface")


@pytest.mark.slow
def test_last_weight_stays_one():
    net = IResNet18(embedding_size=8)
    optimizer = paddle.optimizer.AdamW(0.1, parameters=[p for p in net.parameters() if not p.stop_gradient])
    features = net(paddle.randn([2, 3, 112, 112]))
    (features * paddle.randn([2, 8])).sum().backward()
    optimizer.step()
    assert net.features.weight.stop_gradient and net.features.weight.grad is None
    assert np.array_equal(net.features.weight.numpy(), np.ones(8))
    assert not np.array_equal(net.features.bias.numpy(), np.zeros(8))


def test_fixed_scale_batch_norm_equals_batch_norm_with_a_trained_weight():
    ours, plain = FixedScaleBatchNorm1D(5), paddle.nn.BatchNorm1D(5)
    gradients = []
    for norm in (ours, plain):
        x = paddle.to_tensor(np.random.RandomState(0).randn(6, 5).astype("float32"), stop_gradient=False)
        (norm(x) * paddle.arange(30, dtype="float32").reshape([6, 5])).sum().backward()
        gradients.append([norm.bias.grad.numpy(), x.grad.numpy(), norm._mean.numpy(), norm._variance.numpy()])
    for got, expected in zip(*gradients):
        assert expected.any() and np.array_equal(got, expected)


def test_dropout_acts_in_training_only():
    net = IResNet18(embedding_size=8, dropout=0.5)
    assert net.dropout.p == 0.5
    x = paddle.ones([1, 1000])
    assert (net.dropout(x) == 0).any()
    net.eval()
    assert (net.dropout(x) == 1).all()


@pytest.mark.parametrize("value", [-0.1, 1, 1.5, "0.4", True, None])
def test_dropout_outside_its_range_is_refused(value):
    with pytest.raises(ValueError) as error:
        IResNet18(dropout=value)
    assert str(error.value) == f"IResNet18: dropout must be a number in [0, 1), found {value!r}."


def test_wrong_embedding_size_is_refused_under_the_name_the_user_wrote():
    with pytest.raises(
        ValueError, match="^IResNet100.embedding_size: expected a whole number of at least 1, found -1.$"
    ):
        IResNet100(embedding_size=-1)


@pytest.mark.slow
def test_recompute_gives_the_same_gradients_and_the_same_statistics():
    """To the last bit, with each block computed twice; Paddle's recompute alone moves the statistics twice."""
    images = paddle.to_tensor(np.random.RandomState(0).randn(2, 3, 112, 112).astype("float32"))
    results = []
    for recompute in (False, True):
        paddle.seed(0)
        net = IResNet18(embedding_size=8, dropout=0.3, recompute=recompute)
        calls = count_calls(net.layer3[0])
        (net(images) * paddle.arange(16, dtype="float32").reshape([2, 8])).sum().backward()
        assert len(calls) == (2 if recompute else 1)
        gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        statistics = {name: t for name, t in net.state_dict().items() if name.endswith(("_mean", "_variance"))}
        results.append({**gradients, **statistics})
    plain, recomputed = results
    assert plain.keys() == recomputed.keys()
    for name, value in plain.items():
        np.testing.assert_array_equal(recomputed[name].numpy(), value.numpy(), err_msg=name)


def test_evaluation_recomputes_nothing():
    net = IResNet18(embedding_size=8, recompute=True)
    net.eval()
    calls = count_calls(net.layer1[0])
    with paddle.no_grad():
        net(paddle.zeros([1, 3, 112, 112]))
    assert len(calls) == 1


def count_calls(layer: paddle.nn.Layer) -> list[int]:
    calls: list[int] = []
    layer.register_forward_pre_hook(lambda layer, inputs: calls.append(1))
    return calls
