"""Is it the same network? One batch through ours, and through the source where something can run it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Optional

import numpy as np
import paddle
from paddle import nn

from ppfacerec.weights_io.names import PYTORCH_WRAPPERS, is_pytorch, split_head
from ppfacerec.weights_io.read import Weights, raw_state
from ppfacerec.weights_io.torch_forward import torch_embedding

TOLERANCE = 1e-4  # of the largest number


def spread_images(count: int = 4, seed: int = 0) -> np.ndarray:
    """Pictures (N, 3, 112, 112) in [-1, 1] that differ much: noise at three scales, and one of a single colour."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(count):
        cell = (1, 8, 28)[i % 3]
        coarse = rng.uniform(-1, 1, (3, 112 // cell, 112 // cell))
        images.append(coarse.repeat(cell, 1).repeat(cell, 2))
    if count > 3:
        images[3] = np.broadcast_to(rng.uniform(-1, 1, (3, 1, 1)), (3, 112, 112))
    return np.stack(images).astype(np.float32)


def relative_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference, of the first's largest number; infinite where shapes differ or a number is not finite."""
    if first.shape != second.shape or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("inf")
    return float(np.abs(first - second).max() / max(np.abs(first).max(), 1e-30))


def verify(net: nn.Layer, weights: Weights, reference: Optional[str] = None) -> list[tuple[str, float]]:
    """Return (what ran the source, largest relative difference to ours); empty where nothing could.

    Args:
        net: our network with the converted weights, in eval mode.
        weights: as they were read.
        reference: an ONNX file of the same network, to be run by onnxruntime.

    Raises:
        ImportError: `reference` is given and onnxruntime is not installed.
    """
    images = spread_images()
    with paddle.no_grad():
        ours = net(paddle.to_tensor(images)).numpy()
    found = []
    if importlib.util.find_spec("torch") and not Path(weights.path).is_dir():
        state = raw_state(weights.path)
        if weights.format == "torch" or is_pytorch(state):
            import torch

            theirs = torch_embedding(split_head(state, PYTORCH_WRAPPERS)[0], images)
            found.append((f"torch {torch.__version__}", relative_difference(ours, theirs)))
    if reference:
        found.append((f"onnxruntime, {reference}", relative_difference(ours, _onnx_embedding(reference, images))))
    return found


def _onnx_embedding(path: str, images: np.ndarray) -> np.ndarray:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"--reference needs onnxruntime ({error}): pip install onnxruntime") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
