from __future__ import annotations

import paddle
import pytest
from backbone_reference import actual_table, assert_features_equal, key_table, reference_state

from ppfacerec.backbones.mobilefacenet import MobileFaceNet


def test_state_dict_has_paddleclas_keys_and_shapes_in_order():
    assert list(actual_table(MobileFaceNet()).items()) == list(key_table("mobilefacenet_128").items())


def test_features_equal_paddleclas():
    net = MobileFaceNet()
    missing, unexpected = net.set_state_dict(reference_state("mobilefacenet_128", gain=0.85))
    assert (missing, unexpected) == ([], [])
    assert_features_equal(net, "mobilefacenet_paddleclas")


def test_another_embedding_size_changes_only_the_last_layer():
    sizes = dict(actual_table(MobileFaceNet(embedding_size=64)).items())
    changed = {k for k, shape in key_table("mobilefacenet_128").items() if sizes[k] != shape}
    assert changed == {f"linear1.{k}" for k in ("conv.weight", "bn.weight", "bn.bias", "bn._mean", "bn._variance")}


def test_convolutions_start_with_variance_two_over_kernel_area_times_outputs():
    paddle.seed(0)
    weight = MobileFaceNet().conv2.conv.weight.numpy()  # 1x1, 512 outputs, 65,536 weights
    assert weight.std() == pytest.approx((2 / 512) ** 0.5, rel=0.02)


@pytest.mark.parametrize("value", [0, -1, 1.5, "128", True, None])
def test_embedding_size_that_is_no_positive_int_is_refused(value):
    with pytest.raises(ValueError) as error:
        MobileFaceNet(embedding_size=value)
    assert str(error.value) == f"MobileFaceNet.embedding_size: expected a whole number of at least 1, found {value!r}."
