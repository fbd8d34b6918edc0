"""Paddle's inference model: a program (inference.json, on Paddle 2.6 inference.pdmodel) and inference.pdiparams."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle

from ppfacerec.export.network import ExportedNetwork
from ppfacerec.inference import create_predictor, program_file

STEM = "inference"  # PaddleClas's


def save_paddle(network: ExportedNetwork, folder: Path) -> list[str]:
    """Write the program and its parameters; return the files' names."""
    static = paddle.jit.to_static(network, input_spec=[network.input_spec()], full_graph=True)
    paddle.jit.save(static, str(folder / STEM))
    return [program_file(folder / STEM).name, f"{STEM}.pdiparams"]


def run_paddle(folder: Path, onednn: bool, num_threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that runs the exported model on the CPU.

    Args:
        folder: where it is.
        onednn: with oneDNN's kernels, or Paddle's own.
        num_threads: of one call.
    """
    predictor = create_predictor(folder / STEM, onednn, num_threads)
    input_handle = predictor.get_input_handle(predictor.get_input_names()[0])
    output_handle = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(images: np.ndarray) -> np.ndarray:
        input_handle.reshape(images.shape)
        input_handle.copy_from_cpu(np.ascontiguousarray(images))
        predictor.run()
        output: np.ndarray = output_handle.copy_to_cpu()
        return output

    return run
