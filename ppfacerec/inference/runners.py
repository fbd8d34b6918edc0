"""Exported models as functions of images, on the CPU."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ppfacerec.core.environment import import_extra

STEM = "inference"  # of Paddle's files, as PaddleClas names them
needed = partial(import_extra, extra="onnx", what="ONNX needs more packages (paddle2onnx, onnx, onnxruntime)")


def run_onnx(path: Path, num_threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that runs an ONNX file on the CPU; raise an ImportError without onnxruntime."""
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
        ValueError: the file is missing or not an ONNX model.
        ImportError: onnxruntime is not installed.
    """
    onnxruntime = needed("onnxruntime")
    if not path.is_file():
        raise ValueError(f"{path} does not exist.")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ValueError(f"{path} is not an ONNX model that onnxruntime can run: {error}") from error
    return dict(session.get_modelmeta().custom_metadata_map), "uint8" in session.get_inputs()[0].type
