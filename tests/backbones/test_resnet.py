from __future__ import annotations

import paddle
import pytest
from backbone_reference import actual_table, key_table

from ppfacerec.backbones.resnet import ResNet50

FACE = {"max_pool": False, "stride_list": [1, 2, 2, 2, 2], "embedding_size": 512}  # PaddleClas's face recipe


def test_state_dict_has_paddleclas_keys_and_shapes_in_order():
    assert list(actual_table(ResNet50(**FACE)).items()) == list(key_table("resnet50_face_512").items())


@pytest.mark.parametrize(
    ("max_pool", "stride_list", "total"),
    [
        (False, [1, 2, 2, 2, 2], 16),
        (False, [1, 1, 2, 2, 2], 8),
        (True, (2, 2, 2, 2, 2), 32),
        (True, [1, 2, 2, 2, 2], 16),
    ],
)
def test_total_stride_is_the_product_of_stride_list(max_pool, stride_list, total):
    net = ResNet50(max_pool, stride_list, 8)
    net.eval()
    sides = []
    net.blocks.register_forward_post_hook(lambda layer, inputs, output: sides.append(output.shape[2:]))
    with paddle.no_grad():
        net(paddle.zeros([1, 3, 64, 64]))
    assert [list(side) for side in sides] == [[64 // total, 64 // total]]


def test_a_blocks_stride_is_on_its_3x3_convolution_and_its_shortcut():
    first = ResNet50(**FACE).blocks[0]
    strides = {name: list(getattr(first, name).conv._stride) for name in ("conv0", "conv1", "conv2", "short")}
    assert strides == {"conv0": [1, 1], "conv1": [2, 2], "conv2": [1, 1], "short": [2, 2]}


def test_max_pool_takes_the_second_stride_from_the_first_stage():
    net = ResNet50(max_pool=True)
    assert (net.pool.stride, list(net.blocks[0].conv1.conv._stride)) == (2, [1, 1])


@pytest.mark.parametrize("value", [[1, 2, 2, 2], [1, 2, 2, 2, 0], [1, 2, 2, 2, 2.0], 2, None, "22222"])
def test_wrong_stride_list_is_refused(value):
    with pytest.raises(ValueError) as error:
        ResNet50(stride_list=value)
    assert str(error.value) == (
        "ResNet50: stride_list must be 5 positive ints (stem, max pool or stage 1, stages 2, 3 and 4), "
        f"found {value!r}."
    )


def test_wrong_embedding_size_is_refused():
    with pytest.raises(ValueError, match="^ResNet50.embedding_size: expected a whole number of at least 1, found 0.$"):
        ResNet50(embedding_size=0)
