"""insightface's MobileFaceNets and AdaFace's IR networks: their parameters, and what their own programs gave."""

from __future__ import annotations

import paddle
import pytest
from backbone_reference import actual_table, assert_features_equal, key_table, reference_state

from ppfacerec.backbones import IR18, IR101, MobileFaceNetInsight, MobileFaceNetInsightLarge


@pytest.mark.parametrize(
    ("net", "table"),
    [
        (MobileFaceNetInsight, "mobilefacenet_insight_512"),
        (MobileFaceNetInsightLarge, "mobilefacenet_insight_large_512"),
        (IR18, "ir18_512"),
    ],
)
def test_state_dict_has_the_sources_keys_and_shapes(net, table):
    assert actual_table(net()) == key_table(table)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "table", "fixture", "gain"),
    [
        (MobileFaceNetInsight, "mobilefacenet_insight_512", "mobilefacenet_insightface", 0.85),
        (MobileFaceNetInsightLarge, "mobilefacenet_insight_large_512", "mobilefacenet_large_insightface", 0.85),
        (IR18, "ir18_512", "ir18_adaface", 0.7),
    ],
)
def test_features_equal_the_sources(net, table, fixture, gain):
    net = net()
    assert net.set_state_dict(reference_state(table, gain, pytorch=True)) == ([], [])
    assert_features_equal(net, fixture)


@pytest.mark.slow
def test_recompute_gives_the_same_gradients():
    gradients = []
    for recompute in (False, True):
        paddle.seed(3)
        net = IR18(8, dropout=0.0, recompute=recompute)
        net(paddle.ones([2, 3, 112, 112]) * paddle.to_tensor([0.5, -0.5]).reshape([2, 1, 1, 1])).sum().backward()
        gradients.append(net.body[0].res_layer[1].weight.grad.numpy())
    assert abs(gradients[0] - gradients[1]).max() <= 1e-5 * abs(gradients[0]).max()


@pytest.mark.parametrize("value", [-0.1, 1, True, "0.4"])
def test_dropout_outside_of_its_range_is_refused(value):
    with pytest.raises(ValueError, match=r"^IR101: dropout must be a number in \[0, 1\), found"):
        IR101(dropout=value)
