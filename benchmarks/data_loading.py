"""How fast do training batches get ready, against the decoder's own limit and a plain pipeline?

"limit" is cv2.imdecode of bytes that are in memory, nothing else. "plain" reads, decodes, flips, normalises and
transposes each image in float32 and stacks the batch. "ready" is a batch of ours from files, with flip, as bytes that
can go to the device; "ppfacerec" is the loader to tensors on the device, which is the CPU here: one more copy. All in
turn in one run, per second of CPU time, because other work may run beside. With workers that is the time that as many
free cores would take: of the busiest process, or the sum divided by the cores.

    python benchmarks/data_loading.py --data dataset/lfw_train62
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "3")
import cv2
import numpy as np
import paddle
import psutil

from ppfacerec.core.device.cpu_tuning import tune_cpu
from ppfacerec.core.image_size import IMAGE_SHAPE
from ppfacerec.core.registry import Spec
from ppfacerec.data.datasets.base import ImageNetDataset
from ppfacerec.data.loading.bad_images import BadImages
from ppfacerec.data.loading.batch_maker import BatchMaker
from ppfacerec.data.loading.loader import TrainLoader
from ppfacerec.data.loading.sampler import DistributedBatchSampler
from ppfacerec.data.transforms.basic import Pipeline

PASSES = 5  # over the data a measurement: the system counts CPU time in hundredths of a second
OPS = [Spec("DecodeImage"), Spec("RandFlipImage"), Spec("NormalizeImage")]


def decoder_alone(dataset: ImageNetDataset) -> Callable[[], int]:
    content = [np.frombuffer(dataset.read(i), np.uint8) for i in range(len(dataset))]

    def run() -> int:
        for data in content:
            cv2.imdecode(data, cv2.IMREAD_COLOR)
        return len(content)

    return run


def plain_loader(dataset: ImageNetDataset, root: str, batch_size: int) -> Callable[[], int]:
    names = [dataset.where(i).rsplit("(", 1)[1][:-1] for i in range(len(dataset))]

    def image(name: str) -> np.ndarray:
        bgr = cv2.imdecode(np.fromfile(os.path.join(root, name), np.uint8), cv2.IMREAD_COLOR)
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        if np.random.rand() < 0.5:
            rgb = cv2.flip(rgb, 1)
        return ((rgb.astype("float32") / 255 - 0.5) / 0.5).transpose(2, 0, 1)

    def run() -> int:
        for first in range(0, len(names), batch_size):
            paddle.to_tensor(np.stack([image(name) for name in names[first : first + batch_size]]))
        return len(names)

    return run


def ready(dataset: ImageNetDataset, batch_size: int) -> Callable[[], int]:
    maker = BatchMaker(dataset, Pipeline(OPS), BadImages(), seed=0)
    sampler = DistributedBatchSampler(len(dataset), batch_size)
    images = np.empty((batch_size, *IMAGE_SHAPE), np.uint8)
    return lambda: sum(len(maker.make(1, indices, images).indices) for indices in sampler.batches(1))


def ours(dataset: ImageNetDataset, batch_size: int, num_workers: int) -> tuple[Callable[[], int], TrainLoader]:
    loader = TrainLoader(
        dataset, Pipeline(OPS), DistributedBatchSampler(len(dataset), batch_size), num_workers, prefetch_factor=2
    )
    return lambda: sum(len(batch.indices) for batch in loader.epoch(1)), loader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="FOLDER", help="with label.txt in it")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    tune_cpu()  # as in training
    dataset = ImageNetDataset(arguments.data, str(Path(arguments.data) / "label.txt"))
    alone, _ = ours(dataset, arguments.batch_size, 0)
    started = time.perf_counter()
    together, loader = ours(dataset, arguments.batch_size, arguments.workers)
    batches = loader.epoch(1)
    next(batches)
    start_up = time.perf_counter() - started
    list(batches)
    kinds = {
        "decoder alone (limit)": decoder_alone(dataset),
        "plain, one process": plain_loader(dataset, arguments.data, arguments.batch_size),
        "ready for the device, one process": ready(dataset, arguments.batch_size),
        "ppfacerec, one process": alone,
        f"ppfacerec, {arguments.workers} workers": together,
    }
    cpu: dict[str, list[float]] = {name: [] for name in kinds}
    wall: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(arguments.rounds):
        for name, run in kinds.items():
            processes = [psutil.Process(), *(psutil.Process().children() if "workers" in name else [])]
            before, began = [seconds(process) for process in processes], time.perf_counter()
            images = sum(run() for _ in range(PASSES))
            wall[name].append(images / (time.perf_counter() - began))
            used = [seconds(process) - earlier for process, earlier in zip(processes, before)]
            cpu[name].append(images / max(*used, sum(used) / arguments.workers) if len(used) > 1 else images / used[0])
    loader.close()
    limit, single = "decoder alone (limit)", "ppfacerec, one process"
    print(
        f"{len(dataset)} images, batch {arguments.batch_size}, median of {arguments.rounds} rounds; first batch of "
        f"{arguments.workers} workers after {start_up:.2f} s; load of the machine {os.getloadavg()[0]:.1f}\n"
    )
    print("| version | images/s of CPU time | of the limit | of one process | images/s (wall) |\n|---|---|---|---|---|")
    for name in kinds:
        share, times = (statistics.median(x / y for x, y in zip(cpu[name], cpu[base])) for base in (limit, single))
        rates = statistics.median(cpu[name]), statistics.median(wall[name])
        print(f"| {name} | {rates[0]:,.0f} | {share:.2f} | {times:.2f} | {rates[1]:,.0f} |")


def seconds(process: psutil.Process) -> float:
    """CPU time of a process so far."""
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
