"""Exponential moving average of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import paddle

from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.checkpoints.saved_layout import from_saved


class EMA:
    """Keep w_ema = d w_ema + (1 - d) w of all floating-point tensors of a network, including batch-norm statistics.

    The decay d of update t is min(decay, (1 + t) / (10 + t)), so that the random start is forgotten quickly.
    """

    def __init__(self, recognizer: FaceRecognizer, decay: float) -> None:
        self._recognizer, self._decay = recognizer, decay
        # float32 even for the half-precision weights of AMP O2, in which (1 - d) times a weight would be rounded away.
        tensors = recognizer.state_dict().items()
        self._average = {name: tensor.detach().astype("float32").clone() for name, tensor in tensors}

    @paddle.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the network's current tensors, after `step` optimizer steps."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in self._recognizer.state_dict().items():
            average = self._average[name]
            paddle.assign(average * decay + tensor.detach().astype("float32") * (1 - decay), average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the network's tensors by the averages inside the block."""
        own = {name: tensor.detach().clone() for name, tensor in self._recognizer.state_dict().items()}
        self._set(self._average)
        try:
            yield
        finally:
            self._set(own)

    def _set(self, tensors: Mapping[str, paddle.Tensor]) -> None:
        for name, tensor in self._recognizer.state_dict().items():
            tensor.set_value(tensors[name].astype(tensor.dtype))

    def tensors(self) -> Mapping[str, paddle.Tensor]:
        """The averages by the names of the network's tensors."""
        return self._average

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Load the averages of a checkpoint."""
        for name, tensor in self._average.items():
            tensor.set_value(from_saved(self._recognizer, name, state[name]))
