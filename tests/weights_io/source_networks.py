"""The source networks once more, under the source's own names, to compare with.

Nothing of this package's layers, names or transposed matrices is used, so that an error in any of them shows. What
computes is given: PyTorch's functions, or plain NumPy (source_forward.py).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np


class Source(Protocol):
    """A state dict that computes: ``source.conv("layer1.0.conv1", x)``. Arrays are (N, C, H, W)."""

    def has(self, name: str) -> bool: ...

    def channels(self, name: str) -> int: ...

    def count(self, pattern: str) -> int: ...

    def conv(self, name: str, x: Any, stride: int = 1, padding: int | None = None) -> Any: ...

    def norm(self, name: str, x: Any) -> Any: ...

    def prelu(self, name: str, x: Any) -> Any: ...

    def relu(self, x: Any) -> Any: ...

    def linear(self, name: str, x: Any) -> Any: ...


class Names:
    """What can be asked of a state dict's names."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.tensors = tensors

    def has(self, name: str) -> bool:
        return f"{name}.weight" in self.tensors

    def channels(self, name: str) -> int:
        """Channels that a convolution puts out."""
        return int(self.tensors[f"{name}.weight"].shape[0])

    def count(self, pattern: str) -> int:
        """How many different numbers or letters stand at the pattern's place."""
        return len({m[1] for m in (re.match(pattern, name) for name in self.tensors) if m})

    def get(self, name: str, *leaves: str) -> Any:
        """The tensor under one of the leaves' names: PyTorch's and Paddle's differ."""
        return next((self.tensors[f"{name}.{leaf}"] for leaf in leaves if f"{name}.{leaf}" in self.tensors), None)


def _iresnet(net: Source, x: Any) -> Any:
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
    return net.norm("features", net.linear("fc", net.norm("bn2", x)))


def _ir(net: Source, x: Any) -> Any:
    x = net.prelu("input_layer.2", net.norm("input_layer.1", net.conv("input_layer.0", x)))
    width = 0
    for i in range(net.count(r"body\.(\d+)\.")):
        block = f"body.{i}.res_layer"
        channels = net.channels(f"{block}.4")
        stride, width = (2 if channels != width else 1), channels
        projection = f"body.{i}.shortcut_layer"
        shortcut = x[:, :, ::stride, ::stride]
        if net.has(f"{projection}.0"):
            shortcut = net.norm(f"{projection}.1", net.conv(f"{projection}.0", x, stride))
        y = net.norm(f"{block}.2", net.conv(f"{block}.1", net.norm(f"{block}.0", x)))
        y = net.conv(f"{block}.4", net.prelu(f"{block}.3", y), stride)
        x = net.norm(f"{block}.5", y) + shortcut
    x = net.linear("output_layer.3", net.norm("output_layer.0", x))
    return net.norm("output_layer.4", x)  # AdaFace's own program divides it by its length


def _mbf_conv(net: Source, name: str, x: Any, stride: int = 1) -> Any:
    x = net.norm(f"{name}.layers.1", net.conv(f"{name}.layers.0", x, stride))
    return net.prelu(f"{name}.layers.2", x) if net.has(f"{name}.layers.2") else x


def _mbf_depthwise(net: Source, name: str, x: Any, stride: int) -> Any:
    y = _mbf_conv(net, f"{name}.layers.1", _mbf_conv(net, f"{name}.layers.0", x), stride)
    return _mbf_conv(net, f"{name}.layers.2", y)


def _mbf(net: Source, x: Any) -> Any:
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
    x = _mbf_conv(net, "features.layers.0", _mbf_conv(net, "conv_sep", x))
    return net.norm("features.layers.3", net.linear("features.layers.2", x))


def _fresresnet(net: Source, x: Any) -> Any:
    """PLSC's older backbone: an IResNet whose blocks are res2a, res2b, ..."""
    x = net.prelu("prelu", net.norm("conv._batch_norm", net.conv("conv._conv", x)))
    for stage in (2, 3, 4, 5):
        for i in range(net.count(rf"res{stage}(.)\.")):
            block, stride = f"res{stage}{chr(ord('a') + i)}", 2 if i == 0 else 1
            shortcut = x
            if net.has(f"{block}.short._conv"):
                shortcut = net.norm(f"{block}.short._batch_norm", net.conv(f"{block}.short._conv", x, stride))
            y = net.conv(f"{block}.conv0._conv", net.norm(f"{block}._batch_norm", x))
            y = net.prelu(f"{block}.prelu", net.norm(f"{block}.conv0._batch_norm", y))
            x = net.norm(f"{block}.conv1._batch_norm", net.conv(f"{block}.conv1._conv", y, stride)) + shortcut
    return net.norm("fc._batch_norm_2", net.linear("fc.fc", net.norm("fc._batch_norm_1", x)))


def _mobilefacenet(net: Source, x: Any) -> Any:
    """PaddleClas's MobileFaceNet; blocks 0, 5 and 12 halve the picture."""

    def layer(name: str, x: Any, stride: int = 1) -> Any:
        x = net.norm(f"{name}.bn", net.conv(f"{name}.conv", x, stride))
        return net.prelu(f"{name}.prelu", x) if name in _WITH_PRELU else x

    x = layer("dw_conv1", layer("conv1", x, 2))
    width = net.channels("dw_conv1.conv")
    for i in range(net.count(r"blocks\.(\d+)\.")):
        block, stride = f"blocks.{i}.conv", 2 if i in (0, 5, 12) else 1
        y = net.prelu(f"{block}.2", net.norm(f"{block}.1", net.conv(f"{block}.0", x)))
        y = net.prelu(f"{block}.5", net.norm(f"{block}.4", net.conv(f"{block}.3", y, stride)))
        y = net.norm(f"{block}.7", net.conv(f"{block}.6", y))
        keeps, width = net.channels(f"{block}.6") == width and stride == 1, net.channels(f"{block}.6")
        x = x + y if keeps else y
    x = layer("linear1", layer("linear7", layer("conv2", x)))
    return x[:, :, 0, 0]


_WITH_PRELU = ("conv1", "dw_conv1", "conv2")


def _resnet50(net: Source, x: Any) -> Any:
    """PaddleClas's ResNet50 as its face recipe has it: no max pool, strides 1, 2, 2, 2, 2, which leave no trace."""

    def layer(name: str, x: Any, stride: int = 1, padding: int | None = None) -> Any:
        return net.norm(f"{name}.bn", net.conv(f"{name}.conv", x, stride, padding))

    x = net.relu(layer("stem.0", x, 1, padding=3))
    for i in range(net.count(r"blocks\.(\d+)\.")):
        block, is_first = f"blocks.{i}", net.has(f"blocks.{i}.short.conv")
        stride = 2 if is_first else 1
        shortcut = layer(f"{block}.short", x, stride) if is_first else x
        y = net.relu(layer(f"{block}.conv1", net.relu(layer(f"{block}.conv0", x)), stride))
        x = net.relu(layer(f"{block}.conv2", y) + shortcut)
    return net.linear("fc", x.mean((2, 3)))


_NETWORKS: dict[str, Callable[[Source, Any], Any]] = {
    "layer1.0.conv1.weight": _iresnet,
    "body.0.res_layer.1.weight": _ir,
    "conv_sep.layers.0.weight": _mbf,
    "res2a.conv0._conv.weight": _fresresnet,
    "dw_conv1.conv.weight": _mobilefacenet,
    "stem.0.conv.weight": _resnet50,
}


def network_of(state: Mapping[str, np.ndarray]) -> Callable[[Source, Any], Any]:
    """Return the network whose state dict this is, as a function of source and images.

    Raises:
        ValueError: it is of no network that is known here.
    """
    for sign, network in _NETWORKS.items():
        if sign in state:
            return network
    raise ValueError("the source is of no network that can be run under its own names here.")
