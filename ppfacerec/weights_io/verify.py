"""Is it the same network? One batch through ours, and through the source where something can run it."""

import importlib.util
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from ppfacerec.weights_io.names import PYTORCH_WRAPPERS, is_pytorch, split_head
from ppfacerec.weights_io.read import Weights, as_floats, raw_state
from ppfacerec.weights_io.source_forward import numpy_embedding, torch_embedding

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


def verify(net: nn.Layer, weights: Weights, reference: str | None = None) -> list[tuple[str, float]]:
    """Return (what ran the source, largest relative difference to ours), of everything that could run it.

    NumPy always can: the source's tensors go through the network once more, under their own names and in float64. That
    finds tensors that were mixed up, transposed or lost, and layers put together wrongly here or there; that what is
    run so is PaddleClas's, insightface's and AdaFace's network, the tests say (their programs' outputs).

    Args:
        net: our network with the converted weights, in eval mode.
        weights: as they were read.
        reference: an ONNX file, or a folder with Paddle's inference model, of the same network.

    Raises:
        ImportError: `reference` is an ONNX file and onnxruntime is not installed.
        ValueError: `reference` is missing, or neither of the two.
    """
    images = spread_images()
    with paddle.no_grad():
        ours = net(paddle.to_tensor(images)).numpy()
    raw = as_floats(raw_state(weights.path))
    pytorch = weights.format == "torch" or is_pytorch(raw)
    state = split_head(raw, PYTORCH_WRAPPERS if pytorch else ("backbone",))[0]
    theirs = numpy_embedding(state, images, pytorch)
    found = [("its own tensors under their own names in NumPy, float64", relative_difference(ours, theirs))]
    if pytorch and importlib.util.find_spec("torch"):
        import torch

        found.append((f"torch {torch.__version__}", relative_difference(ours, torch_embedding(state, images))))
    if reference:
        found.append((reference, relative_difference(ours, _reference_embedding(reference, images))))
    return found


def _reference_embedding(path: str, images: np.ndarray) -> np.ndarray:
    if Path(path).suffix == ".onnx":
        return _onnx_embedding(path, images)
    from ppfacerec.apply.runners import STEM, run_paddle
    from ppfacerec.inference import program_file

    if not program_file(Path(path) / STEM).is_file():
        raise ValueError(f"--reference {path}: expected an .onnx file, or a folder with {STEM}.pdmodel or {STEM}.json.")
    return run_paddle(Path(path), onednn=False)(images)


def _onnx_embedding(path: str, images: np.ndarray) -> np.ndarray:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"--reference needs onnxruntime ({error}): pip install onnxruntime") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
