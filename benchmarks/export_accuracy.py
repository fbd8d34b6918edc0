"""Is an exported model as accurate as the weights it was made from? On real .bin files, by insightface's protocol.

python benchmarks/export_accuracy.py --weights mobilefacenet.pdparams --bins lfw.bin cfp_fp.bin

Eager Paddle, Paddle Inference with oneDNN, onnxruntime, and onnxruntime on uint8 pixels; needs `pip install ".[onnx]"`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "3")

import numpy as np
import paddle

from ppfacerec.core.device.cpu_tuning import tune_cpu
from ppfacerec.core.device.inference import InferenceRunner
from ppfacerec.core.log import table
from ppfacerec.data.pairs.pair_bin import read_bin
from ppfacerec.export import export_model
from ppfacerec.inference.face_model import FaceModel, load
from ppfacerec.inference.loading import load_backbone
from ppfacerec.metrics import evaluate


def models(weights: str, folder: Path) -> dict[str, FaceModel]:
    """The same network in each form."""
    backbone, info = load_backbone(weights)
    runner = InferenceRunner(backbone, "eager")
    mean, std = np.asarray(info.mean, np.float32), np.asarray(info.std, np.float32)

    def eager(images: np.ndarray) -> np.ndarray:
        pixels = images[..., ::-1] if info.colors == "BGR" else images
        values = (pixels.astype(np.float32) * np.float32(info.scale) - mean) / std
        return runner(paddle.to_tensor(np.ascontiguousarray(values.transpose(0, 3, 1, 2))))

    export_model(backbone, info, folder / "paddle", "paddle")
    export_model(backbone, info, folder / "onnx", "onnx")
    export_model(backbone, info, folder / "uint8", "onnx", uint8_input=True)
    return {
        "eager": FaceModel(eager, info, "eager"),
        "Paddle Inference": load(folder / "paddle"),
        "ONNX": load(folder / "onnx" / "inference.onnx"),
        "ONNX, uint8 input": load(folder / "uint8" / "inference.onnx"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--bins", required=True, nargs="+")
    arguments = parser.parse_args()
    paddle.set_device("cpu")
    tune_cpu()
    sets = {Path(path).stem: read_bin(path) for path in arguments.bins}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        first: dict[str, np.ndarray] = {}
        for form, model in models(arguments.weights, Path(folder)).items():
            row, difference, start = [form], 0.0, time.process_time()
            for name, pairs in sets.items():
                embeddings = model.embed(pairs.images)
                result = evaluate(embeddings[pairs.index], pairs.is_same)
                row.append(f"{result.accuracy_mean:.5f} (std {result.accuracy_std:.4f}), TAR {result.val:.4f}")
                difference = max(difference, float(np.abs(embeddings - first.setdefault(name, embeddings)).max()))
            rows.append([*row, f"{difference:.1e}", f"{time.process_time() - start:.0f} s"])
            print(rows[-1], flush=True)
    header = ["form", *(f"{name} ({len(pairs)} pairs)" for name, pairs in sets.items())]
    print(table([*header, "largest difference to eager", "CPU time"], rows))


if __name__ == "__main__":
    main()
