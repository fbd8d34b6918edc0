"""Parity: one batch through our network, and through a model of the source."""

from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from ppfacerec.core.device.inference import program_file
from ppfacerec.core.image_size import IMAGE_SIZE
from ppfacerec.inference.runners import STEM, run_onnx, run_paddle

TOLERANCE = 1e-4  # of the largest number


def spread_images(count: int = 4) -> np.ndarray:
    """Diverse pictures (N, 3, 112, 112) in [-1, 1]: noise at three scales, and one of a single colour."""
    rng = np.random.default_rng(0)
    images = []
    for i in range(count):
        cell = (1, 8, 28)[i % 3]
        coarse = rng.uniform(-1, 1, (3, IMAGE_SIZE // cell, IMAGE_SIZE // cell))
        images.append(coarse.repeat(cell, 1).repeat(cell, 2))
    if count > 3:
        images[3] = np.broadcast_to(rng.uniform(-1, 1, (3, 1, 1)), images[0].shape)
    return np.stack(images).astype(np.float32)


def spread_pixels(count: int) -> np.ndarray:
    """The same pictures as uint8 pixels (N, 112, 112, 3)."""
    pixels = np.rint((spread_images(count) + 1) * 127.5).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def relative_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference, of the first's largest number; infinite where shapes differ or a number is not finite."""
    if first.shape != second.shape or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("inf")
    return float(np.abs(first - second).max() / max(np.abs(first).max(), 1e-30))


def difference_to(net: nn.Layer, reference: str) -> float:
    """Largest relative difference of a network in eval mode to another implementation of it, on diverse pictures.

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
    if Path(path).suffix == ".onnx":  # one by one: its batch size may be fixed
        run = run_onnx(Path(path))
        return np.concatenate([run(image[None]) for image in images])
    if not program_file(Path(path) / STEM).is_file():
        raise ValueError(f"--verify {path}: expected an .onnx file, or a folder with {STEM}.pdmodel or {STEM}.json.")
    return run_paddle(Path(path), onednn=False)(images)
