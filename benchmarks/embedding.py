"""How much faster do two processes embed a folder than one? `infer embed` on the CPU, MobileFaceNet, one thread each.

    python benchmarks/embedding.py [--images 2000] [--rounds 3] [--weights mobilefacenet.pdparams]

Each side is the command that a user gives, Python's start included; the images are made-up faces' size, JPEG. The
seconds an image are taken between a folder of a quarter of the images and the whole one, so that starting, which
millions of images do not notice, is not in them. Both sides must write the same bytes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppfacerec.core.opencv import import_cv2

ROOT = Path(__file__).resolve().parents[1]


def write_images(folder: Path, number: int) -> None:
    """Smooth pictures of 112 x 112."""
    cv2, rng = import_cv2(), np.random.default_rng(0)
    folder.mkdir()
    for index in range(number):
        small = rng.integers(0, 255, (8, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index:06d}.jpg"), cv2.resize(small, (112, 112), interpolation=cv2.INTER_CUBIC))


def write_weights(path: Path) -> None:
    from ppfacerec.backbones import MobileFaceNet
    from ppfacerec.export.convert_weights import write_pdparams

    write_pdparams(path, {f"backbone.{name}": value.numpy() for name, value in MobileFaceNet().state_dict().items()})


def seconds(num_processes: int, images: Path, weights: Path, out: Path) -> float:
    """Wall time of the command."""
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(num_processes),
                "--log_dir", str(out.parent / "log")] if num_processes > 1 else []  # fmt: skip
    command = [sys.executable, *launcher, str(ROOT / "tools" / "infer.py"), "embed", str(images),
               "--model", str(weights), "--out", str(out)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "3"}
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="of both sides in turn; the median counts")
    parser.add_argument("--weights", type=Path, help="MobileFaceNet's; random ones by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        weights = arguments.weights or root / "random.pdparams"
        if not arguments.weights:
            write_weights(weights)
        sizes = {"few": arguments.images // 4, "all": arguments.images}
        for label, number in sizes.items():
            write_images(root / label, number)
        taken: dict[tuple[int, str], list[float]] = {(n, label): [] for n in (1, 2) for label in sizes}
        for _ in range(arguments.rounds):
            for (number, label), times in taken.items():
                times.append(seconds(number, root / label, weights, root / f"{number}_{label}.npz"))
        for label in sizes:
            assert (root / f"1_{label}.npz").read_bytes() == (root / f"2_{label}.npz").read_bytes()
    print(f"{arguments.images} images of 112 x 112, flip test as the weights say, median of {arguments.rounds}\n")
    print("| processes | s in all | ratio | images/s without the start | ratio |\n|---|---|---|---|---|")
    more = sizes["all"] - sizes["few"]
    rates = {n: [more / (a - f) for a, f in zip(taken[n, "all"], taken[n, "few"])] for n in (1, 2)}
    for number in (1, 2):
        whole = statistics.median(taken[number, "all"])
        faster = statistics.median(one / own for one, own in zip(taken[1, "all"], taken[number, "all"]))
        gain = statistics.median(own / one for one, own in zip(rates[1], rates[number]))
        print(f"| {number} | {whole:.1f} | {faster:.2f} | {statistics.median(rates[number]):.0f} | {gain:.2f} |")


if __name__ == "__main__":
    main()
