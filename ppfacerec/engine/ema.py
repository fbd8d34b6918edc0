"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn


class EMA:
    """Keeps w_ema = d w_ema + (1 - d) w of all floating-point tensors of a layer, batch-norm statistics included.

    The decay of update t is min(decay, (1 + t) / (10 + t)), so that the random start is forgotten quickly.

    Args:
        layer: whose tensors.
        decay: d.
    """

    def __init__(self, layer: nn.Layer, decay: float) -> None:
        self._layer, self._decay = layer, decay
        # float32 also for the half-precision weights of AMP O2: (1 - d) times a weight would be rounded away in them.
        self._average = {name: tensor.detach().astype("float32").clone() for name, tensor in layer.state_dict().items()}

    @paddle.no_grad()
    def update(self, step: int) -> None:
        """Take the layer's present tensors in, after `step` optimizer steps."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in self._layer.state_dict().items():
            average = self._average[name]
            paddle.assign(average * decay + tensor.detach().astype("float32") * (1 - decay), average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the layer have the averaged tensors inside the block."""
        own = {name: tensor.detach().clone() for name, tensor in self._layer.state_dict().items()}
        self._set(self._average)
        try:
            yield
        finally:
            self._set(own)

    def _set(self, tensors: Mapping[str, paddle.Tensor]) -> None:
        for name, tensor in self._layer.state_dict().items():
            tensor.set_value(tensors[name].astype(tensor.dtype))

    def state(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self._average.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        for name, tensor in self._average.items():
            tensor.set_value(state[name])
