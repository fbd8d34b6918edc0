"""A source network's embeddings, computed from its own tensors: by PyTorch where that is installed, and by NumPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from source_networks import Names, network_of

_EPSILON = 1e-5  # of every batch norm in these networks


def numpy_embedding(state: Mapping[str, np.ndarray], images: np.ndarray, pytorch: bool) -> np.ndarray:
    """Embeddings (N, D) float64 of images (N, 3, 112, 112), layer by layer in plain NumPy.

    Args:
        state: the source's state dict under its own names.
        pytorch: a linear layer's matrix is (out, in); Paddle's is (in, out).

    Raises:
        ValueError: the state dict is of no network that is known here.
    """
    network = network_of(state)
    return np.asarray(network(_NumpySource(state, pytorch), images.astype(np.float64)))


class _NumpySource(Names):
    def __init__(self, state: Mapping[str, np.ndarray], pytorch: bool) -> None:
        super().__init__({name: np.asarray(array, np.float64) for name, array in state.items()})
        self._pytorch = pytorch

    def conv(self, name: str, x: np.ndarray, stride: int = 1, padding: int | None = None) -> np.ndarray:
        """A sum over the kernel's places: a matrix product of each group's channels."""
        weight = self.tensors[f"{name}.weight"]  # (out, in / groups, k, k)
        kernel = weight.shape[2]
        pad = (1 if kernel == 3 else 0) if padding is None else padding
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        height, width = ((size - kernel) // stride + 1 for size in x.shape[2:])
        groups = x.shape[1] // weight.shape[1]
        grouped = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, out / groups, in / groups, k, k)
        result = np.zeros((len(x), groups, grouped.shape[1], height * width))
        for i in range(kernel):
            for k in range(kernel):
                seen = x[:, :, i : i + stride * height : stride, k : k + stride * width : stride]
                seen = seen.reshape(len(x), groups, weight.shape[1], -1)
                result += seen * grouped[..., i, k] if weight[0].size == kernel**2 else grouped[..., i, k] @ seen
        return result.reshape(len(x), len(weight), height, width)

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        mean, variance = self.get(name, "running_mean", "_mean"), self.get(name, "running_var", "_variance")
        scale, shift = self.get(name, "weight"), self.get(name, "bias")
        shape = (1, -1, 1, 1)[: x.ndim]
        result = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + _EPSILON)
        result = result if scale is None else result * scale.reshape(shape)
        return result if shift is None else result + shift.reshape(shape)

    def prelu(self, name: str, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, x * self.get(name, "weight", "_weight").reshape(1, -1, 1, 1))

    def relu(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0)

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        weight, bias = self.tensors[f"{name}.weight"], self.get(name, "bias")
        result = x.reshape(len(x), -1) @ (weight.T if self._pytorch else weight)
        return result if bias is None else result + bias


def torch_embedding(state: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Embeddings (N, D) of images (N, 3, 112, 112) by a PyTorch state dict of insightface's or AdaFace's backbone.

    Raises:
        ImportError: torch is not installed.
        ValueError: the state dict is of no network that is known here.
    """
    import torch

    network = network_of(state)
    source = _TorchSource({name: torch.from_numpy(np.array(array, np.float32)) for name, array in state.items()})
    with torch.no_grad():
        return np.asarray(network(source, torch.from_numpy(images)).numpy())


class _TorchSource(Names):
    def __init__(self, tensors: Mapping[str, Any]) -> None:
        import torch.nn.functional as F

        super().__init__(tensors)
        self.F = F

    def conv(self, name: str, x: Any, stride: int = 1, padding: int | None = None) -> Any:
        weight = self.tensors[f"{name}.weight"]
        pad = (1 if weight.shape[2] == 3 else 0) if padding is None else padding
        return self.F.conv2d(x, weight, None, stride, pad, 1, x.shape[1] // weight.shape[1])

    def norm(self, name: str, x: Any) -> Any:
        mean, variance = self.tensors[f"{name}.running_mean"], self.tensors[f"{name}.running_var"]
        return self.F.batch_norm(x, mean, variance, self.get(name, "weight"), self.get(name, "bias"), eps=_EPSILON)

    def prelu(self, name: str, x: Any) -> Any:
        return self.F.prelu(x, self.tensors[f"{name}.weight"])

    def relu(self, x: Any) -> Any:
        return self.F.relu(x)

    def linear(self, name: str, x: Any) -> Any:
        return self.F.linear(x.flatten(1), self.tensors[f"{name}.weight"], self.get(name, "bias"))
