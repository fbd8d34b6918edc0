"""How fast does MobileFaceNet train on one CPU core, against plain Paddle?

Each measurement is a fresh process of its own: forward, ArcFace loss, backward and AdamW on random images. "plain" is
the same network with Paddle's own PReLU kernel and none of `cpu_tuning`'s settings, which is how PaddleClas runs.

    python benchmarks/train_step.py --batch-size 64 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

STEPS = 4


def measure(plain: bool, batch_size: int) -> float:
    """Images per second of CPU time, after one step of warm-up."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    from ppfacerec.core.device.cpu_tuning import tune_cpu

    if not plain:
        tune_cpu()
    import paddle

    from ppfacerec.backbones import MobileFaceNet, cpu_layers
    from ppfacerec.heads import ArcMargin
    from ppfacerec.losses import CELoss
    from ppfacerec.optim import OPTIMIZERS, parameter_groups
    from ppfacerec.recognizer import FaceRecognizer

    if plain:
        cpu_layers.PReLU.forward = paddle.nn.PReLU.forward
    recognizer = FaceRecognizer(MobileFaceNet(), ArcMargin(128, 1000))
    optimizer = OPTIMIZERS.get("AdamW")(groups=parameter_groups([recognizer], 0.05, True))
    images, labels = paddle.randn([batch_size, 3, 112, 112]), paddle.randint(0, 1000, [batch_size])
    for step in range(STEPS + 1):
        if step == 1:
            start = time.process_time()
        CELoss()(recognizer.scores(recognizer(images), labels), labels).backward()
        optimizer.step()
        optimizer.clear_grad()
    return STEPS * batch_size / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each kind, in turn")
    parser.add_argument("--child", choices=["plain", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(measure(arguments.child == "plain", arguments.batch_size))
        return
    results: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(arguments.rounds):
        for kind, values in results.items():
            command = [sys.executable, __file__, "--child", kind, "--batch-size", str(arguments.batch_size)]
            values.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]))
    ratios = [ours / plain for ours, plain in zip(results["ours"], results["plain"])]
    print(
        f"batch {arguments.batch_size}, 1 thread, images per second of CPU time, median of {arguments.rounds} rounds\n"
    )
    print("| version | images/s | ratio (lowest to highest pair) |\n|---|---|---|")
    print(f"| plain Paddle | {statistics.median(results['plain']):.1f} | 1 |")
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"| ppfacerec | {statistics.median(results['ours']):.1f} | {middle:.2f} ({low:.2f} to {high:.2f}) |")


if __name__ == "__main__":
    main()
