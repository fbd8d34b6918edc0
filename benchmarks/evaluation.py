"""How fast, and in how much memory, is a .bin evaluated with flip test on the CPU?

Against eager Paddle that embeds every image of every pair, as PaddleClas does. Each side runs in a process of its own,
one after the other, so that its CPU time, wall time and peak memory (RSS) are its own.

python benchmarks/evaluation.py                                  # 200 pairs of random pictures, shared as in LFW
python benchmarks/evaluation.py --bin lfw.bin --weights mobilefacenet.pdparams [--num-pairs 300] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional

import numpy as np

os.environ.setdefault("GLOG_minloglevel", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppfacerec.core.opencv import import_cv2
from ppfacerec.data.pairs.pair_bin import read_bin, write_bin

BATCH_SIZE = 64
SIDES = {"import": "importing Paddle alone", "eager": "eager, every image of every pair", "ours": "ppfacerec"}


def write_made_up(path: Path, num_pairs: int) -> None:
    """Noise pictures; 12,000 entries for 7,701 distinct images, as in LFW."""
    rng = np.random.default_rng(0)
    distinct = max(20, round(2 * num_pairs * 7701 / 12000))
    pictures = rng.integers(0, 255, (distinct, 112, 112, 3), np.uint8)
    images = [import_cv2().imencode(".jpg", p)[1].tobytes() for p in pictures]
    index = [*range(distinct), *rng.integers(0, distinct, 2 * num_pairs - distinct)]
    write_bin(path, [images[i] for i in index], np.arange(num_pairs) % 2 == 0)


def write_first(path: Path, source: str, num_pairs: Optional[int]) -> None:
    """The first pairs of a file, all of them by default."""
    pairs = read_bin(source)
    num_pairs = num_pairs or len(pairs)
    write_bin(path, [pairs.images[i] for i in pairs.index[: 2 * num_pairs]], pairs.is_same[:num_pairs])


def run_eager(path: str, weights: Optional[str]) -> float:
    """What a plain evaluation does: decode all, then a pass for the images and one for their mirror images."""
    import paddle

    from ppfacerec.data.transforms.images import decode_rgb
    from ppfacerec.metrics import evaluate, sum_flip

    backbone, pairs, rows = make_backbone(weights), read_bin(path), []
    for start in range(0, len(pairs.index), BATCH_SIZE):
        images = [decode_rgb(pairs.images[i], "benchmark") for i in pairs.index[start : start + BATCH_SIZE]]
        values = (np.stack(images).astype(np.float32) / 255 - 0.5) / 0.5
        batch = paddle.to_tensor(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
        with paddle.no_grad():
            rows.append(sum_flip(backbone(batch).numpy(), backbone(paddle.flip(batch, axis=[3])).numpy()))
    return evaluate(np.concatenate(rows), pairs.is_same).accuracy_mean


def run_ours(path: str, weights: Optional[str]) -> float:
    from ppfacerec.core.device.cpu_tuning import tune_cpu
    from ppfacerec.core.registry import Spec
    from ppfacerec.data.pairs.eval_datasets import FiveFaceEvalDataset
    from ppfacerec.data.transforms.basic import Pipeline
    from ppfacerec.evaluation.evaluator import Evaluator
    from ppfacerec.metrics import FaceAccOnFiveDatasets

    tune_cpu()
    dataset = FiveFaceEvalDataset(str(Path(path).parent), [Path(path).stem])
    pipeline = Pipeline([Spec("DecodeImage"), Spec("NormalizeImage")])
    evaluator = Evaluator(dataset, pipeline, FaceAccOnFiveDatasets(), BATCH_SIZE)
    return evaluator.evaluate(make_backbone(weights)).average_accuracy


def make_backbone(weights: Optional[str]):  # type: ignore[no-untyped-def]
    import paddle

    from ppfacerec.backbones import MobileFaceNet
    from ppfacerec.recognizer import FaceRecognizer
    from ppfacerec.training.checkpoints.pretrained import load_pretrained

    paddle.set_device("cpu")
    paddle.seed(0)
    recognizer = FaceRecognizer(MobileFaceNet())
    if weights:
        load_pretrained(recognizer, weights)
    recognizer.eval()
    return recognizer.backbone


def run_side(side: str, path: str, weights: Optional[str]) -> None:
    """In the child: run one side and print its figures. Importing Paddle counts for memory, not for time."""
    import paddle  # noqa: F401

    cpu, wall = time.process_time(), time.perf_counter()
    accuracy = {"import": lambda *_: 0.0, "eager": run_eager, "ours": run_ours}[side](path, weights)
    figures = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "accuracy": accuracy}
    print(json.dumps({**figures, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def measure(side: str, path: Path, weights: Optional[str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, "--bin", str(path)]
    done = subprocess.run([*command, *(["--weights", weights] if weights else [])], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", help="a real .bin file")
    parser.add_argument("--weights", help="MobileFaceNet's; random ones by default")
    parser.add_argument("--num-pairs", type=int, help="the first pairs of the file; all by default, 200 made-up ones")
    parser.add_argument("--rounds", type=int, default=1, help="of both sides in turn; the median counts")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        run_side(arguments.side, arguments.bin, arguments.weights)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.bin"
        if arguments.bin:
            write_first(path, arguments.bin, arguments.num_pairs)
        else:
            write_made_up(path, arguments.num_pairs or 200)
        pairs = read_bin(path)
        rounds = [{side: measure(side, path, arguments.weights) for side in SIDES} for _ in range(arguments.rounds)]
    entries = len(pairs.index)
    print(f"{entries} images in {len(pairs)} pairs, {pairs.num_images} distinct, with flip; median of {len(rounds)}\n")
    print("| version | CPU s | ratio | wall s | ratio | images/s of CPU | RSS MiB | accuracy |")
    print("|---|---|---|---|---|---|---|---|")
    for side, label in SIDES.items():
        cpu, wall, rss = (statistics.median(r[side][key] for r in rounds) for key in ("cpu", "wall", "rss"))
        if side == "import":
            print(f"| {label} | | | | | | {rss:.0f} | |")
            continue
        faster = [statistics.median(r["eager"][key] / r[side][key] for r in rounds) for key in ("cpu", "wall")]
        accuracy = rounds[0][side]["accuracy"]
        print(
            f"| {label} | {cpu:.1f} | {faster[0]:.1f} | {wall:.1f} | {faster[1]:.1f} | {entries / cpu:.0f} | {rss:.0f} "
            f"| {accuracy:.5f} |"
        )


if __name__ == "__main__":
    main()
