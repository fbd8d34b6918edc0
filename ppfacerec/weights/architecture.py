"""Identify the network of a state dict by its names and shapes."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ppfacerec.core.registry import Spec

IRESNET_DEPTHS: dict[tuple[int, ...], int] = {
    (2, 2, 2, 2): 18,
    (3, 4, 6, 3): 34,
    (3, 4, 14, 3): 50,
    (3, 13, 30, 3): 100,
    (6, 26, 60, 6): 200,
}
IR_DEPTHS = {8: 18, 16: 34, 24: 50, 49: 101}  # by the number of blocks
MBF_BLOCKS: dict[tuple[int, ...], str] = {
    (1, 4, 6, 2): "MobileFaceNetInsight",
    (2, 8, 12, 4): "MobileFaceNetInsightLarge",
}


def identify(state: Mapping[str, np.ndarray]) -> Spec | None:
    """Return the backbone (name and arguments) of a state dict without the prefix ``backbone.``, or None."""
    return next((rule(state) for sign, rule in _RULES.items() if sign in state), None)


def _iresnet(state: Mapping[str, np.ndarray]) -> Spec | None:
    depths = tuple(_count(state, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    name = IRESNET_DEPTHS.get(depths)
    return _spec(f"IResNet{name}", state, "fc.bias") if name else None


def _ir(state: Mapping[str, np.ndarray]) -> Spec | None:
    depth = IR_DEPTHS.get(_count(state, r"body\.(\d+)\."))
    return _spec(f"IR{depth}", state, "output_layer.3.bias") if depth else None


def _mbf(state: Mapping[str, np.ndarray]) -> Spec | None:
    first = _count(state, r"layers\.1\.layers\.(\d+)\.layers\.") or 1
    blocks = (first, *(_count(state, rf"layers\.{i}\.layers\.(\d+)\.") for i in (3, 5, 7)))
    name = MBF_BLOCKS.get(blocks)
    return _spec(name, state, "features.layers.3.bias") if name else None


def _resnet50(state: Mapping[str, np.ndarray]) -> Spec | None:
    # Strides cannot be inferred from weights: these are PaddleClas's for faces.
    face = {"max_pool": False, "stride_list": (1, 2, 2, 2, 2)}
    return _spec("ResNet50", state, "fc.bias", **face)


_RULES: dict[str, Callable[[Mapping[str, np.ndarray]], Spec | None]] = {
    "layer1.0.conv1.weight": _iresnet,
    "body.0.res_layer.1.weight": _ir,
    "conv_sep.layers.0.weight": _mbf,
    "dw_conv1.conv.weight": lambda state: _spec("MobileFaceNet", state, "linear1.bn.bias"),
    "stem.0.conv.weight": _resnet50,
}


def _spec(name: str, state: Mapping[str, np.ndarray], bias: str, **kwargs: Any) -> Spec | None:
    """The last layer's bias determines the embedding size."""
    if bias not in state or state[bias].ndim != 1:
        return None
    return Spec(name, {**kwargs, "embedding_size": len(state[bias])})


def _count(state: Mapping[str, np.ndarray], pattern: str) -> int:
    """Count the different numbers that the pattern's group matches."""
    return len({match[1] for match in (re.match(pattern, name) for name in state) if match})
