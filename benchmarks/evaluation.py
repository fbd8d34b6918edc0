"""How fast is an evaluation with flip test on the CPU, against eager Paddle that embeds every image of every pair?

python benchmarks/evaluation.py                      # random pictures, an image in about 1.6 pairs as in LFW
python benchmarks/evaluation.py --bin lfw.bin --num-pairs 300
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace

import numpy as np

os.environ.setdefault("GLOG_minloglevel", "3")

from ppfacerec.cpu_tuning import tune_cpu
from ppfacerec.data.images import decode_rgb
from ppfacerec.data.opencv import import_cv2
from ppfacerec.data.pair_bin import PairBin, read_bin


def made_up_pairs(num_pairs: int) -> PairBin:
    """Noise pictures; 12,000 entries for 7,701 distinct images, as in LFW."""
    rng = np.random.default_rng(0)
    distinct = max(20, round(2 * num_pairs * 7701 / 12000))
    pictures = rng.integers(0, 255, (distinct, 112, 112, 3), np.uint8)
    images = tuple(import_cv2().imencode(".jpg", p)[1].tobytes() for p in pictures)
    index = np.concatenate([np.arange(distinct), rng.integers(0, distinct, 2 * num_pairs - distinct)])
    return PairBin("made up", images, index, rng.random(num_pairs) < 0.5)


def first_pairs(path: str, num_pairs: int) -> PairBin:
    """The first pairs of a file, with the distinct images of the whole file's proportion."""
    pairs = read_bin(path)
    index = pairs.index[: 2 * num_pairs]
    used, renumbered = np.unique(index, return_inverse=True)
    return replace(
        pairs, images=tuple(pairs.images[i] for i in used), index=renumbered, is_same=pairs.is_same[:num_pairs]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", help="a real .bin file")
    parser.add_argument("--num-pairs", type=int, default=200)
    arguments = parser.parse_args()
    import paddle

    from ppfacerec.backbones import MobileFaceNet
    from ppfacerec.data.transforms import NormalizeImage
    from ppfacerec.inference import InferenceRunner
    from ppfacerec.metrics import sum_flip
    from ppfacerec.runtime import to_network_input

    pairs = first_pairs(arguments.bin, arguments.num_pairs) if arguments.bin else made_up_pairs(arguments.num_pairs)
    backbone = MobileFaceNet()
    backbone.eval()

    def embed(encoded: list[bytes], backend: str, batch_size: int = 64) -> np.ndarray:
        runner, rows = InferenceRunner(backbone, backend), []
        for start in range(0, len(encoded), batch_size):
            images = np.stack([decode_rgb(data, "benchmark") for data in encoded[start : start + batch_size]])
            batch = to_network_input(paddle.to_tensor(images), NormalizeImage())
            rows.append(sum_flip(runner(batch), runner(paddle.flip(batch, axis=[3]))))
        return np.concatenate(rows)

    start = time.process_time()
    plain = embed([pairs.images[i] for i in pairs.index], "eager")
    plain_seconds = time.process_time() - start
    tune_cpu()
    start = time.process_time()
    ours = embed(list(pairs.images), "onednn")[pairs.index]
    seconds = time.process_time() - start
    entries = 2 * len(pairs)
    print(f"{entries} images in {len(pairs)} pairs, {len(pairs.images)} distinct, with flip, seconds of CPU time\n")
    print("| version | seconds | images/s | ratio |\n|---|---|---|---|")
    print(f"| eager, every image of every pair | {plain_seconds:.1f} | {entries / plain_seconds:.1f} | 1 |")
    print(f"| ppfacerec | {seconds:.1f} | {entries / seconds:.1f} | {plain_seconds / seconds:.1f} |")
    print(f"\nlargest difference of a normalised embedding's number: {np.abs(ours - plain).max():.1e}")


if __name__ == "__main__":
    main()
