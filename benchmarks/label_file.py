"""How long does label.txt of 5.18 million lines take, and how much memory, against a plain Python loop over lines?

Each measurement is a fresh process of its own that has not imported Paddle; what importing took is left out.

    python benchmarks/label_file.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CLASSES = 93_431  # of MS1MV3, with 5,179,510 images


def plain(path: str) -> int:
    samples = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, label = line.rstrip("\n").split("\t")
            samples.append((name, int(label)))
    return len(samples)


def ours(path: str) -> int:
    return len(LabelFile(path, class_num=CLASSES))


def measure(kind: str, path: str) -> str:
    """Seconds of CPU and wall time, and MiB that were added to the process's peak."""
    before = peak_mib()
    cpu, wall = time.process_time(), time.perf_counter()
    {"plain": plain, "ours": ours}[kind](path)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return f"{cpu} {wall} {peak_mib() - before}"


def peak_mib() -> float:
    """Peak resident memory of this program (Linux); ru_maxrss would count the parent's before the exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def write(path: str, lines: int) -> None:
    labels = np.sort(np.random.default_rng(0).integers(0, CLASSES, lines)).tolist()
    with open(path, "w") as file:
        file.writelines(f"images/{i:08d}.jpg\t{label}\n" for i, label in enumerate(labels, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=5_179_510)
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each kind, in turn")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(measure(*arguments.child))
        return
    results: dict[str, list[list[float]]] = {"plain": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "label.txt")
        write(path, arguments.lines)
        for _ in range(arguments.rounds):
            for kind, values in results.items():
                command = [sys.executable, __file__, "--child", kind, path]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                values.append([float(number) for number in out.split()])
        size = Path(path).stat().st_size / 2**20
    print(f"{arguments.lines:,} lines, {size:.0f} MiB, median of {arguments.rounds} rounds\n")
    print("| version | s (CPU) | s (wall) | MiB | ratio of time | ratio of memory |\n|---|---|---|---|---|---|")
    base = np.median(results["plain"], axis=0)
    for kind, name in (("plain", "loop over lines"), ("ours", "ppfacerec, checked")):
        cpu, wall, mib = np.median(results[kind], axis=0)
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {mib:.0f} | {base[0] / cpu:.1f} | {base[2] / mib:.1f} |")


if __name__ == "__main__":
    from ppfacerec.data.datasets.label_file import LabelFile

    main()
