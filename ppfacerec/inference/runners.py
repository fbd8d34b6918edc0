"""Exported models as functions of images, on the CPU."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from ppfacerec.core.device.inference import Predictor, create_predictor
from ppfacerec.core.environment import install_hint

STEM = "inference"  # of Paddle's files, as PaddleClas names them
NEEDED = "ONNX needs more packages (paddle2onnx, onnx, onnxruntime)"


def run_paddle(folder: Path, onednn: bool, num_threads: int = 1) -> Predictor:
    """Return the exported model in a folder, to be called with images on the CPU; see `create_predictor`."""
    return create_predictor(folder / STEM, onednn, num_threads)


def run_onnx(path: Path, num_threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that runs an ONNX file on the CPU.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    onnxruntime = needed("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = num_threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> np.ndarray:
        output: np.ndarray = session.run(None, {name: images})[0]
        return output

    return run


def onnx_metadata(path: Path) -> tuple[dict[str, str], bool]:
    """Return an ONNX file's metadata, and whether it takes uint8 pixels.

    Raises:
        ValueError: the file is missing or no ONNX model.
        ImportError: onnxruntime is not installed.
    """
    onnxruntime = needed("onnxruntime")
    if not path.is_file():
        raise ValueError(f"{path} does not exist.")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class of their own
        raise ValueError(f"{path} is no ONNX model that onnxruntime can run: {error}") from error
    return dict(session.get_modelmeta().custom_metadata_map), "uint8" in session.get_inputs()[0].type


def needed(name: str) -> ModuleType:
    """Import a package of the ONNX extra, or say how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{NEEDED}, {install_hint('onnx')}: {error}") from error
