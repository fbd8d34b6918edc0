"""What other projects' backbones look like and give, in a small form, and the rule that makes the weights for it.

``fixtures/*.layers.txt`` has one line a layer: name, kind, shape of its weight as Paddle stores it.
``fixtures/*.npz`` has what the other project's own program gave for `reference_images` and `reference_state`.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import paddle

FIXTURES = Path(__file__).parent / "fixtures"
# kind of layer -> its tensors: name in Paddle, name in PyTorch, kind of tensor
TENSORS = {
    "conv": [("weight", "weight", "matrix")],
    "linear": [("weight", "weight", "matrix"), ("bias", "bias", "bias")],
    "linear_without_bias": [("weight", "weight", "matrix")],
    "prelu": [("_weight", "weight", "slope")],
    "statistics": [("_mean", "running_mean", "mean"), ("_variance", "running_var", "variance")],
    "bn": [
        ("weight", "weight", "scale"),
        ("bias", "bias", "bias"),
        ("_mean", "running_mean", "mean"),
        ("_variance", "running_var", "variance"),
    ],
}


LINEAR = ("linear", "linear_without_bias")


def layers(name: str) -> list[tuple[str, str, list[int]]]:
    """Name, kind and weight shape of each layer of ``fixtures/<name>.layers.txt``."""
    rows = [line.split() for line in (FIXTURES / f"{name}.layers.txt").read_text().splitlines()]
    return [(layer, kind, [int(n) for n in shape.split("x")]) for layer, kind, shape in rows]


def key_table(name: str) -> dict[str, list[int]]:
    """State-dict key -> shape, in order."""
    return {
        f"{layer}.{paddle_name}": shape if tensor == "matrix" else shape[-1:]
        for layer, kind, shape in layers(name)
        for paddle_name, _, tensor in TENSORS[kind]
    }


def actual_table(net: paddle.nn.Layer) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in net.state_dict().items()}


def reference_state(name: str, gain: float, pytorch: bool = False) -> dict[str, np.ndarray]:
    """Deterministic weights: each tensor comes from a generator seeded with its key, PyTorch's key when `pytorch`."""
    state = {}
    for layer, kind, shape in layers(name):
        for paddle_name, torch_name, tensor in TENSORS[kind]:
            seed_key = f"{layer}.{torch_name if pytorch else paddle_name}"
            transposed = kind in LINEAR and tensor == "matrix" and pytorch  # PyTorch stores [out, in]
            wanted = shape[::-1] if transposed else shape if tensor == "matrix" else shape[-1:]
            value = _draw(seed_key, tensor, wanted, gain, fan_in_first=kind in LINEAR and not pytorch)
            state[f"{layer}.{paddle_name}"] = np.ascontiguousarray(value.T) if transposed else value
    return state


def pytorch_state(name: str, gain: float) -> dict[str, np.ndarray]:
    """The state dict that PyTorch's network has for ``reference_state(name, gain, pytorch=True)``."""
    paddle_state, state = reference_state(name, gain, pytorch=True), {}
    for layer, kind, _ in layers(name):
        for paddle_name, torch_name, _ in TENSORS[kind]:
            value = paddle_state[f"{layer}.{paddle_name}"]
            state[f"{layer}.{torch_name}"] = value.T if kind in LINEAR and value.ndim == 2 else value
        if kind in ("bn", "statistics"):
            state[f"{layer}.num_batches_tracked"] = np.array(5)
    return state


def _draw(key: str, tensor: str, shape: list[int], gain: float, fan_in_first: bool) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(key.encode()))
    if tensor == "variance":
        return random.uniform(0.5, 1.5, shape).astype("float32")
    value = random.randn(*shape)
    if tensor == "matrix":
        fan_in = shape[0] if fan_in_first else np.prod(shape[1:])
        return (value * gain * np.sqrt(2.0 / fan_in)).astype("float32")
    offset, spread = {"scale": (1, 0.1), "bias": (0, 0.1), "mean": (0, 0.1), "slope": (0.25, 0.05)}[tensor]
    return (offset + spread * value).astype("float32")


def reference_images() -> np.ndarray:
    """Two images [2, 3, 112, 112]: noise at two scales, clipped to [-1, 1]."""
    random = np.random.RandomState(20240601)
    fine = random.randn(2, 3, 112, 112) * 0.5
    coarse = random.randn(2, 3, 7, 7) * 0.5
    return (fine + coarse.repeat(16, 2).repeat(16, 3)).clip(-1, 1).astype("float32")


def assert_features_equal(net: paddle.nn.Layer, fixture: str, tolerance: float = 1e-5) -> None:
    """Compare the eval-mode embedding of `reference_images` with the fixture, relative to max|feature|."""
    stored = np.load(FIXTURES / f"{fixture}.npz")
    images = reference_images()
    assert abs(images.astype("float64").sum() - stored["input_sum"]) < 0.01, "the input differs, not the network"
    net.eval()
    with paddle.no_grad():
        features = net(paddle.to_tensor(images)).numpy()
    error = np.abs(features - stored["features"]).max() / np.abs(stored["features"]).max()
    assert error < tolerance, f"features differ by {error:.1e} of the largest"
