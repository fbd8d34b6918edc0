"""Laws that hold for every backbone; the deepest IResNets are left out for time, they differ in `depths` only."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from ppfacerec.backbones import BACKBONES
from ppfacerec.core.device.inference import TracedBackbone

SMALL = {
    "MobileFaceNet": {"embedding_size": 16},
    "ResNet50": {"max_pool": False, "stride_list": [1, 2, 2, 2, 2], "embedding_size": 16},
    "IResNet18": {"embedding_size": 16},
    "IR18": {"embedding_size": 16},
    "MobileFaceNetInsight": {"embedding_size": 16},
}


@pytest.fixture(scope="module", params=sorted(SMALL))
def net(request):
    paddle.seed(1)
    return BACKBONES.get(request.param)(**SMALL[request.param])


def random_faces(count: int) -> paddle.Tensor:
    return paddle.to_tensor(np.random.RandomState(3).uniform(-1, 1, (count, 3, 112, 112)).astype("float32"))


def test_registry_lists_every_backbone():
    iresnets = [f"IResNet{depth}" for depth in (18, 34, 50, 100, 200)]
    irs = [f"IR{depth}" for depth in (18, 34, 50, 101)]
    mobile = ["MobileFaceNet", "MobileFaceNetInsight", "MobileFaceNetInsightLarge"]
    assert [n for n in BACKBONES.names() if BACKBONES.get(n).__module__.startswith("ppfacerec.")] == sorted(
        ["ResNet50", *iresnets, *irs, *mobile]
    )


@pytest.mark.slow
def test_gradient_reaches_every_trainable_parameter(net):
    net.train()
    weight = paddle.to_tensor(np.random.RandomState(4).randn(2, 16).astype("float32"))
    (net(random_faces(2)) * weight).sum().backward()
    trainable = {name: p for name, p in net.named_parameters() if not p.stop_gradient}
    without = [n for n, p in trainable.items() if p.grad is None or not np.isfinite(p.grad.numpy()).all()]
    dead = [n for n, p in trainable.items() if n not in without and not p.grad.numpy().any()]
    net.clear_gradients()
    assert (without, dead) == ([], [])


@pytest.mark.slow
def test_embedding_of_an_image_does_not_depend_on_its_batch(net):
    net.eval()
    faces = random_faces(2)
    with paddle.no_grad():
        both, alone = net(faces), net(faces[:1])
    assert list(alone.shape) == [1, net.embedding_size] and both.dtype == paddle.float32
    np.testing.assert_allclose(both[:1].numpy(), alone.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_static_graph_equals_eager_at_any_batch_size(net):
    net.eval()
    spec = paddle.static.InputSpec([None, 3, 112, 112], "float32")
    layer = TracedBackbone(net)
    layer.eval()
    graph = paddle.jit.to_static(layer, input_spec=[spec], full_graph=True)
    for count in (1, 2):
        with paddle.no_grad():
            eager, static = net(random_faces(count)).numpy(), graph(random_faces(count)).numpy()
        assert np.abs(eager - static).max() <= 1e-5 * np.abs(eager).max()


@pytest.mark.parametrize("name", ["MobileFaceNet", "IResNet18", "IR18", "MobileFaceNetInsight"])
def test_images_of_another_size_are_refused(name):
    with pytest.raises(ValueError) as error:
        BACKBONES.get(name)()(paddle.zeros([2, 3, 224, 224]))
    assert str(error.value) == (
        f"{name} takes images of shape [N, 3, 112, 112], found [2, 3, 224, 224]. "
        "Resize them first, e.g. with ResizeImage: {size: [112, 112]}."
    )
