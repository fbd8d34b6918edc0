"""The source networks in PyTorch's functions, under the source's own names, for `--verify`. Needs torch.

Nothing of this package's layers, names or transposed matrices is used, so that an error in any of them shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_EPSILON = 1e-5  # of every batch norm in these networks


class _State:
    """A PyTorch state dict that computes: ``state.conv("layer1.0.conv1", x)``."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        import torch.nn.functional as F

        self.tensors, self.F = tensors, F

    def has(self, name: str) -> bool:
        return f"{name}.weight" in self.tensors

    def count(self, pattern: str) -> int:
        """How many different numbers stand at the pattern's place."""
        return len({m[1] for m in (re.match(pattern, name) for name in self.tensors) if m})

    def conv(self, name: str, x: Any, stride: int = 1) -> Any:
        weight = self.tensors[f"{name}.weight"]
        padding = 1 if weight.shape[2] == 3 else 0
        return self.F.conv2d(x, weight, None, stride, padding, 1, x.shape[1] // weight.shape[1])

    def norm(self, name: str, x: Any) -> Any:
        get = self.tensors.get
        mean, variance = self.tensors[f"{name}.running_mean"], self.tensors[f"{name}.running_var"]
        return self.F.batch_norm(x, mean, variance, get(f"{name}.weight"), get(f"{name}.bias"), eps=_EPSILON)

    def prelu(self, name: str, x: Any) -> Any:
        return self.F.prelu(x, self.tensors[f"{name}.weight"])

    def linear(self, name: str, x: Any) -> Any:
        return self.F.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))


def _iresnet(net: _State, x: Any) -> Any:
    x = net.prelu("prelu", net.norm("bn1", net.conv("conv1", x)))
    for stage in (1, 2, 3, 4):
        for i in range(net.count(rf"layer{stage}\.(\d+)\.")):
            block, stride = f"layer{stage}.{i}", 2 if i == 0 else 1
            shortcut = x
            if net.has(f"{block}.downsample.0"):
                shortcut = net.norm(f"{block}.downsample.1", net.conv(f"{block}.downsample.0", x, stride))
            y = net.conv(f"{block}.conv1", net.norm(f"{block}.bn1", x))
            y = net.prelu(f"{block}.prelu", net.norm(f"{block}.bn2", y))
            x = net.norm(f"{block}.bn3", net.conv(f"{block}.conv2", y, stride)) + shortcut
    return net.norm("features", net.linear("fc", net.norm("bn2", x).flatten(1)))


def _ir(net: _State, x: Any) -> Any:
    x = net.prelu("input_layer.2", net.norm("input_layer.1", net.conv("input_layer.0", x)))
    width = 0
    for i in range(net.count(r"body\.(\d+)\.")):
        block = f"body.{i}.res_layer"
        channels = net.tensors[f"{block}.4.weight"].shape[0]
        stride, width = (2 if channels != width else 1), channels
        projection = f"body.{i}.shortcut_layer"
        shortcut = x[:, :, ::stride, ::stride]
        if net.has(f"{projection}.0"):
            shortcut = net.norm(f"{projection}.1", net.conv(f"{projection}.0", x, stride))
        y = net.norm(f"{block}.2", net.conv(f"{block}.1", net.norm(f"{block}.0", x)))
        y = net.conv(f"{block}.4", net.prelu(f"{block}.3", y), stride)
        x = net.norm(f"{block}.5", y) + shortcut
    x = net.linear("output_layer.3", net.norm("output_layer.0", x).flatten(1))
    return net.norm("output_layer.4", x)  # AdaFace's own program divides it by its length


def _mbf_conv(net: _State, name: str, x: Any, stride: int = 1) -> Any:
    x = net.norm(f"{name}.layers.1", net.conv(f"{name}.layers.0", x, stride))
    return net.prelu(f"{name}.layers.2", x) if net.has(f"{name}.layers.2") else x


def _mbf_depthwise(net: _State, name: str, x: Any, stride: int) -> Any:
    y = _mbf_conv(net, f"{name}.layers.1", _mbf_conv(net, f"{name}.layers.0", x), stride)
    return _mbf_conv(net, f"{name}.layers.2", y)


def _mbf(net: _State, x: Any) -> Any:
    x = _mbf_conv(net, "layers.0", x, 2)
    for i in range(1, 8):
        name = f"layers.{i}"
        if net.has(f"{name}.layers.0"):  # the grouped convolution of the small network
            x = _mbf_conv(net, name, x)
        elif i % 2 == 0:
            x = _mbf_depthwise(net, name, x, 2)
        else:
            for k in range(net.count(rf"layers\.{i}\.layers\.(\d+)\.")):
                x = x + _mbf_depthwise(net, f"{name}.layers.{k}", x, 1)
    x = _mbf_conv(net, "features.layers.0", _mbf_conv(net, "conv_sep", x)).flatten(1)
    return net.norm("features.layers.3", net.linear("features.layers.2", x))


_NETWORKS: dict[str, Callable[[_State, Any], Any]] = {
    "layer1.0.conv1.weight": _iresnet,
    "body.0.res_layer.1.weight": _ir,
    "conv_sep.layers.0.weight": _mbf,
}


def torch_embedding(state: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Embeddings (N, D) of images (N, 3, 112, 112) by a PyTorch state dict of insightface's or AdaFace's backbone.

    Raises:
        ImportError: torch is not installed.
        ValueError: the state dict is of no network that is known here.
    """
    import torch

    run = next((network for sign, network in _NETWORKS.items() if sign in state), None)
    if run is None:
        raise ValueError("the source is of no network that can be run in PyTorch here (IResNet, IR, mbf).")
    net = _State({name: torch.from_numpy(np.array(array, np.float32)) for name, array in state.items()})
    with torch.no_grad():
        return np.asarray(run(net, torch.from_numpy(images)).numpy())
