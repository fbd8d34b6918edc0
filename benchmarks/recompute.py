"""What does gradient checkpointing save, and what does it cost? IResNet50 on one CPU core.

    python benchmarks/recompute.py --batch-size 16

Each measurement is a fresh process: a step of warm-up, then forward and backward. Memory is the peak above that of the
process with the network and its gradients; `ppfacerec plan` estimates the same from the layers' outputs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time

BACKBONE = "IResNet50"


def measure(recompute: bool, batch_size: int) -> None:
    """Print peak MiB above weights and gradients, the estimate in MiB, and seconds of CPU time of one step."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    import paddle

    from ppfacerec.backbones import BACKBONES
    from ppfacerec.core.registry import Spec
    from ppfacerec.engine.memory_plan import measure_backbone

    backbone = BACKBONES.build(Spec(BACKBONE), recompute=recompute)

    def step(size: int) -> None:
        backbone(paddle.randn([size, 3, 112, 112])).sum().backward()

    step(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    step(batch_size)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    size = measure_backbone(backbone, BACKBONE)
    kept = size.recomputed_activations if recompute else size.activations
    estimate = batch_size * 4 * (kept + 2 * size.largest) / 2**20
    print(f"{peak / 1024:.0f} {estimate:.0f} {seconds:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--child", choices=["plain", "recompute"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments.child == "recompute", arguments.batch_size)
        return
    results = {}
    for kind in ("plain", "recompute"):
        command = [sys.executable, __file__, "--child", kind, "--batch-size", str(arguments.batch_size)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[-2]
        results[kind] = [float(value) for value in output.split()]
    plain, ours = results["plain"], results["recompute"]
    print(f"{BACKBONE}, batch {arguments.batch_size}, float32, 1 thread\n")
    print("| version | peak MiB | ratio | estimated MiB | CPU seconds | ratio |\n|---|---|---|---|---|---|")
    print(f"| plain | {plain[0]:.0f} | 1 | {plain[1]:.0f} | {plain[2]:.1f} | 1 |")
    print(
        f"| recompute | {ours[0]:.0f} | {ours[0] / plain[0]:.2f} | {ours[1]:.0f} | {ours[2]:.1f} "
        f"| {ours[2] / plain[2]:.2f} |"
    )


if __name__ == "__main__":
    main()
