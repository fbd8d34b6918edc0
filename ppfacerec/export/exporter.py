"""Export with a parity check: a model that differs from eager mode is not written."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import paddle
import yaml
from paddle import nn

from ppfacerec.core.device.inference import create_predictor, in_turn, program_file, save_program
from ppfacerec.core.image_size import IMAGE_SHAPE, IMAGE_SIZE
from ppfacerec.core.io.atomic_file import atomic_write
from ppfacerec.core.io.user_files import sha256
from ppfacerec.core.log import logger
from ppfacerec.core.version import __version__
from ppfacerec.export.network import INPUT, OUTPUT, ExportedNetwork, rgb_network
from ppfacerec.export.onnx_format import save_onnx
from ppfacerec.inference.exported import DESCRIPTIONS
from ppfacerec.inference.parity import TOLERANCE, relative_difference, spread_images, spread_pixels
from ppfacerec.inference.runners import STEM, run_onnx
from ppfacerec.weights.info import ModelInfo

ONNX_FILE = "inference.onnx"
_BATCHES = (1, 3, 8)  # batch sizes of the parity check


def export_model(
    backbone: nn.Layer,
    info: ModelInfo,
    folder: Path,
    export_format: Literal["paddle", "onnx", "both"] = "paddle",
    *,
    uint8_input: bool = False,
    onnx_for_cpu: bool = False,
) -> list[Path]:
    """Write an inference model and its description, a file for each format; return the files.

    The exported model takes RGB even if the network was trained on BGR: programs such as insightface's pass RGB.

    Args:
        folder: ``Global.save_inference_dir``; created if missing, and written only by an export that passes the check.
        export_format: Paddle's inference model, ONNX, or both.
        uint8_input: the graph takes (N, 112, 112, 3) uint8 RGB pixels and normalises them itself.
        onnx_for_cpu: write PReLU as convolutions in the ONNX file, which is twice as fast in onnxruntime on a CPU.

    Raises:
        ValueError: the exported model differs from eager mode by more than 1e-4 of the largest number.
        ImportError: a package for ONNX is missing.
    """
    backbone.eval()
    count = max(_BATCHES)
    inputs = spread_pixels(count) if uint8_input else spread_images(count)  # in the graph's input format
    backbone, info = rgb_network(backbone, info)
    network = ExportedNetwork(backbone, info, uint8_input)
    with paddle.no_grad():
        expected = network(paddle.to_tensor(inputs)).numpy()
    _check_spread(expected)
    with tempfile.TemporaryDirectory(prefix="ppfacerec_export_") as temporary:
        work = Path(temporary)
        files = {"paddle": save_paddle(network, work)}
        if export_format != "onnx":
            for onednn in (False, True):
                runner = "Paddle Inference" + (" with oneDNN" if onednn else "")
                _gate(runner, create_predictor(work / STEM, onednn), inputs, expected)
        if export_format != "paddle":
            save_onnx(work / STEM, work / ONNX_FILE, info, onnx_for_cpu)
            _gate("onnxruntime", run_onnx(work / ONNX_FILE), inputs, expected)
            files["onnx"] = [ONNX_FILE]
        if export_format == "onnx":
            del files["paddle"]
        for kind, names in files.items():
            (work / DESCRIPTIONS[kind]).write_text(_description(info, work, kind, names, uint8_input), encoding="utf-8")
        names = [name for kind, names in files.items() for name in (*names, DESCRIPTIONS[kind])]
        return _moved_together(work, folder, names)


def save_paddle(network: ExportedNetwork, folder: Path) -> list[str]:
    """Write the program (inference.json, on Paddle 2.6 inference.pdmodel) and its parameters; return the names."""
    in_turn(lambda: save_program(network, network.input_spec(), folder / STEM))
    return [program_file(folder / STEM).name, f"{STEM}.pdiparams"]


def _check_spread(embeddings: np.ndarray) -> None:
    """Reject a network that gives the same embedding for every image: it would pass any comparison."""
    if not np.isfinite(embeddings).all():
        raise ValueError("The network's embeddings are not finite numbers; nothing is exported. Check the weights.")
    spread = np.abs(embeddings - embeddings[:1]).max() / max(np.abs(embeddings).max(), 1e-30)
    if spread < 10 * TOLERANCE:
        raise ValueError(
            f"The network gives nearly the same embedding for very different pictures (they differ by {spread:.0e} of "
            "the largest number); nothing is exported. Check the weights."
        )


def _gate(runner: str, run: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray, expected: np.ndarray) -> None:
    worst = max(relative_difference(expected[:count], run(inputs[:count])) for count in _BATCHES)
    if not worst <= TOLERANCE:
        raise ValueError(
            f"The exported model, run by {runner}, differs from eager by {worst:.1e} of the largest number (allowed: "
            f"{TOLERANCE:.0e}); nothing was written."
        )
    logger.info("Parity: %s differs from eager by %.1e of the largest number", runner, worst)


def _description(info: ModelInfo, folder: Path, kind: str, names: list[str], uint8_input: bool) -> str:
    layout = {"dtype": "uint8", "shape": [None, *IMAGE_SHAPE], "values": "RGB pixels"}
    if not uint8_input:
        values = "RGB pixels, (x * scale - mean) / std"
        layout = {"dtype": "float32", "shape": [None, 3, IMAGE_SIZE, IMAGE_SIZE], "values": values}
    tree = {
        "ppfacerec": __version__,
        "files": {kind: names},
        "sha256": {name: sha256(folder / name) for name in names},
        "input": {"name": INPUT, **layout},
        "output": {"name": OUTPUT, "shape": [None, info.embedding_size], "values": "not normalised"},
        "model": info.to_tree(),
    }
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _moved_together(work: Path, folder: Path, names: list[str]) -> list[Path]:
    """Move all files, or none if the disk is full."""
    with ExitStack() as stack:
        for name in names:
            file = stack.enter_context(atomic_write(folder / name))
            file.write((work / name).read_bytes())
            file.flush()
    return [folder / name for name in names]
