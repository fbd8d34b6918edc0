"""Parity of our network with another implementation on one batch."""

from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from ppfacerec.core.device.inference import create_predictor, program_file
from ppfacerec.core.image_size import IMAGE_SIZE
from ppfacerec.inference.runners import STEM, run_onnx

TOLERANCE = 1e-4  # relative to the largest value


def spread_images(count: int = 4) -> np.ndarray:
    """Return diverse images (N, 3, 112, 112) in [-1, 1]: noise at three scales, and one of a single colour."""
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
    """Return the same images as uint8 pixels (N, 112, 112, 3)."""
    pixels = np.rint((spread_images(count) + 1) * 127.5).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def relative_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference relative to the first's largest value; infinite if shapes differ or a value is not finite."""
    if first.shape != second.shape or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("inf")
    return float(np.abs(first - second).max() / max(np.abs(first).max(), 1e-30))


def difference_to(net: nn.Layer, reference: str) -> float:
    """Largest relative difference of a network in eval mode to another implementation, on diverse images.

    Raises:
        ImportError: `reference` is an ONNX file and onnxruntime is not installed.
        ValueError: it is neither an ONNX file nor a folder with Paddle's inference model.
    """
    images, path = spread_images(), Path(reference)
    if path.suffix == ".onnx":
        run = run_onnx(path)
    elif program_file(path / STEM).is_file():
        run = create_predictor(path / STEM, onednn=False)
    else:
        raise ValueError(f"--verify {path}: expected an .onnx file, or a folder with {STEM}.pdmodel or {STEM}.json.")
    with paddle.no_grad():
        ours = net(paddle.to_tensor(images)).numpy()
    return relative_difference(ours, np.concatenate([run(image[None]) for image in images]))  # its batch may be fixed
