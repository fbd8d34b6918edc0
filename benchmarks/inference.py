"""How fast is a backbone in each form in which it is used on the CPU, with 1 and 2 threads, and how large is it?

python benchmarks/inference.py --backbone MobileFaceNet
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("GLOG_minloglevel", "3")

from ppfacerec.core.device.cpu_tuning import tune_cpu


def rates(
    runs: dict[str, Callable[[np.ndarray], object]], images: np.ndarray, rounds: int
) -> dict[str, tuple[float, float]]:
    """Median images per second of wall clock and of CPU time; the versions take turns on the same machine."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run(images)
    for _ in range(rounds):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run(images)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    medians = {name: np.median(times, axis=0) for name, times in seconds.items()}
    return {name: (len(images) / wall, len(images) / cpu) for name, (wall, cpu) in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="MobileFaceNet")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    tune_cpu()
    import paddle

    from ppfacerec.backbones import BACKBONES
    from ppfacerec.core.device.inference import InferenceRunner, create_predictor
    from ppfacerec.export import export_model
    from ppfacerec.inference.runners import STEM, run_onnx
    from ppfacerec.weights.info import ModelInfo

    backbone = BACKBONES.get(arguments.backbone)()
    backbone.eval()
    images = np.random.default_rng(0).uniform(-1, 1, (arguments.batch_size, 3, 112, 112)).astype(np.float32)
    eager, onednn = InferenceRunner(backbone, "eager"), InferenceRunner(backbone, "onednn")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        export_model(backbone, ModelInfo({"name": arguments.backbone}, backbone.embedding_size), folder, "both")
        export_model(
            backbone, ModelInfo({"name": arguments.backbone}, backbone.embedding_size), folder / "cpu", "onnx",
            onnx_for_cpu=True,
        )  # fmt: skip
        weights = sum(t.size * t.element_size() for t in backbone.state_dict().values()) / 1e6
        onnx_size = (folder / "inference.onnx").stat().st_size / 1e6
        paddle_size = sum(p.stat().st_size for p in folder.glob("*.*") if p.suffix not in (".onnx", ".yml")) / 1e6
        runs: dict[str, Callable[[np.ndarray], object]] = {
            "eager, 1 thread": lambda x: eager(paddle.to_tensor(x)),
            "evaluation's oneDNN, 1 thread": lambda x: onednn(paddle.to_tensor(x)),
        }
        sizes = dict.fromkeys(runs, weights)
        for threads in (1, 2):
            s = "s" if threads > 1 else ""
            runs[f"Paddle Inference, {threads} thread{s}"] = create_predictor(folder / STEM, False, threads)
            runs[f"Paddle Inference, oneDNN, {threads} thread{s}"] = create_predictor(folder / STEM, True, threads)
            runs[f"onnxruntime, {threads} thread{s}"] = run_onnx(folder / "inference.onnx", threads)
            runs[f"onnxruntime, --onnx-for-cpu, {threads} thread{s}"] = run_onnx(
                folder / "cpu" / "inference.onnx", threads
            )
        sizes.update({name: onnx_size if "onnx" in name else paddle_size for name in runs if name not in sizes})
        found = rates(runs, images, arguments.rounds)
    base = found["eager, 1 thread"][0]
    print(f"{arguments.backbone}, batch {arguments.batch_size}, median of {arguments.rounds} rounds in turns\n")
    print("| version | MB | images/s | ratio | images/s of CPU time |\n|---|---|---|---|---|")
    for name, (wall, cpu) in found.items():
        print(f"| {name} | {sizes[name]:.1f} | {wall:.1f} | {wall / base:.1f} | {cpu:.1f} |")


if __name__ == "__main__":
    main()
