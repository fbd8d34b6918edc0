"""Is it the same network? One batch through ours, and through a model of the source."""

from pathlib import Path

import numpy as np
import paddle
from paddle import nn

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


def difference_to(net: nn.Layer, reference: str) -> float:
    """Largest relative difference of a network in eval mode to another writing of it, on pictures that differ much.

    Args:
        reference: an ONNX file, or a folder with Paddle's inference model, of the same network.

    Raises:
        ImportError: `reference` is an ONNX file and onnxruntime is not installed.
        ValueError: `reference` is missing, or neither of the two.
    """
    images = spread_images()
    with paddle.no_grad():
        ours = net(paddle.to_tensor(images)).numpy()
    return relative_difference(ours, _reference_embedding(reference, images))


def _reference_embedding(path: str, images: np.ndarray) -> np.ndarray:
    if Path(path).suffix == ".onnx":
        return _onnx_embedding(path, images)
    from ppfacerec.core.device.inference import program_file
    from ppfacerec.inference.runners import STEM, run_paddle

    if not program_file(Path(path) / STEM).is_file():
        raise ValueError(f"--verify {path}: expected an .onnx file, or a folder with {STEM}.pdmodel or {STEM}.json.")
    return run_paddle(Path(path), onednn=False)(images)


def _onnx_embedding(path: str, images: np.ndarray) -> np.ndarray:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"--verify needs onnxruntime ({error}): pip install onnxruntime") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
