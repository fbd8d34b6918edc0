"""The CPU's fast layers against Paddle's own."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from ppfacerec.backbones.cpu_layers import PReLU
from ppfacerec.backbones.mobilefacenet import MobileFaceNet


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def output_and_gradients(layer: nn.Layer, x: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Output, and the gradients of sum(output * weight) with respect to the input and every parameter."""
    inputs = paddle.to_tensor(x, stop_gradient=False)
    output = layer(inputs)
    (output * paddle.to_tensor(weight)).sum().backward()
    gradients = {name: p.grad.numpy() for name, p in layer.named_parameters() if not p.stop_gradient}
    return {"output": output.numpy(), "input": inputs.grad.numpy(), **gradients}


@pytest.fixture
def plain_prelu(monkeypatch):
    """Call it to put Paddle's own PReLU in the place of ours."""
    return lambda: monkeypatch.setattr(PReLU, "forward", nn.PReLU.forward)


def test_prelu_and_its_gradients_equal_paddles(plain_prelu):
    random = np.random.RandomState(0)
    x, weight = random.randn(2, 4, 7, 6, 5).astype("float32")
    layer = PReLU(7)
    layer._weight.set_value(np.linspace(-0.5, 1.5, 7, dtype="float32"))
    ours = output_and_gradients(layer, x, weight)
    layer.clear_gradients()
    plain_prelu()
    plain = output_and_gradients(layer, x, weight)
    assert {name: relative_error(ours[name], plain[name]) < 1e-6 for name in plain} == dict.fromkeys(plain, True)


def test_partial_gradients_of_prelu_equal_the_full_ones():
    layer = PReLU(3)
    x = paddle.randn([2, 3, 4, 4])
    x.stop_gradient = False
    only_slope = paddle.grad([layer(x).sum()], [layer._weight])[0].numpy()
    only_input = paddle.grad([layer(x).sum()], [x])[0].numpy()
    layer(x).sum().backward()
    assert np.array_equal(only_slope, layer._weight.grad.numpy()) and only_slope.any()
    assert np.array_equal(only_input, x.grad.numpy())


@pytest.mark.slow
def test_mobilefacenets_gradients_equal_those_with_paddles_prelu(plain_prelu):
    """In float64: in float32 the rounding of either way is amplified to 1e-3 by 50 batch norms over 4 images."""
    random = np.random.RandomState(1)
    images, weight = random.uniform(-1, 1, (4, 3, 112, 112)), random.randn(4, 16)
    paddle.seed(2)
    net = MobileFaceNet(embedding_size=16)
    net.to(dtype="float64")
    ours = output_and_gradients(net, images, weight)
    net.clear_gradients()
    plain_prelu()
    plain = output_and_gradients(net, images, weight)
    largest = max(np.abs(value).max() for value in plain.values())
    differing = [name for name in plain if np.abs(ours[name] - plain[name]).max() > 1e-9 * largest]
    assert len(plain) == 2 + 183 and differing == []


def test_evaluation_and_exported_graph_see_paddles_own_prelu():
    layer = PReLU(3)
    layer.eval()
    x = paddle.randn([2, 3, 4, 4])
    assert np.array_equal(layer(x).numpy(), nn.functional.prelu(x, layer._weight).numpy())
    spec = [paddle.static.InputSpec([None, 3, 4, 4], "float32")]
    graph = paddle.jit.to_static(layer.forward, input_spec=spec, full_graph=True)
    operators = graph.concrete_program.main_program.global_block().ops
    names = [op.type if hasattr(op, "type") else op.name() for op in operators]
    assert any("prelu" in name for name in names) and not any("batch_norm" in name for name in names)
