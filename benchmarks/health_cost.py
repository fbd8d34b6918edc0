"""What does watching a training's health cost, as a part of its step?

Each row is one training step of a network, with its checks timed inside of it: those of every step (sum of the
gradients, loss, the watchdog's beat), and those of a check, which comes every ``print_batch_step`` iterations and is
divided by it.
CPU time, as other work may run beside; medians.

    python benchmarks/health_cost.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "3")
import numpy as np
import paddle

from ppfacerec.backbones import MobileFaceNet
from ppfacerec.core.device.cpu_tuning import tune_cpu
from ppfacerec.core.log import table
from ppfacerec.data.loading.loader import Batch
from ppfacerec.heads import ArcMargin
from ppfacerec.losses import CELoss
from ppfacerec.optim import OPTIMIZERS, parameter_groups
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.monitoring.health import Health
from ppfacerec.training.monitoring.watchdog import Watchdog
from ppfacerec.training.state import TrainState


def cpu_seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(class_num: int, batch_size: int, num_steps: int, folder: Path) -> list[float]:
    """Medians of a whole step, of its checks, and of a check, in seconds."""
    paddle.seed(0)
    recognizer = FaceRecognizer(MobileFaceNet(), ArcMargin(128, class_num, margin=0.2, scale=24))
    recognizer.train()
    optimizer = OPTIMIZERS.get("AdamW")(groups=parameter_groups([recognizer], 0.05, True))
    state = TrainState(recognizer, optimizer, lambda step: 1e-4)
    health = Health(state, 10_000, 10_000, str, folder, max_bad_steps=50)
    health.on_train_begin(state)
    generator = np.random.default_rng(0)
    images = paddle.to_tensor(generator.standard_normal((batch_size, 3, 112, 112)).astype("float32"))
    labels = paddle.to_tensor(generator.integers(0, class_num, batch_size))
    batch = Batch(images, labels, np.arange(batch_size))
    whole, every, check = [], [], []
    with Watchdog(30, folder, health.record) as watchdog:
        for _ in range(num_steps):
            start = time.process_time()
            state.set_learning_rate()
            embedding = recognizer(images)
            loss = CELoss()(recognizer.scores(embedding, labels), labels)
            losses = {"CELoss": loss.item(), "loss": loss.item()}
            seen = cpu_seconds(lambda values=losses, rows=embedding: health.on_forward(state, batch, rows, values))
            loss.backward()
            health._wants_norm = True
            with_norm = cpu_seconds(lambda: health.on_gradients(state))  # once a check
            without = cpu_seconds(lambda: health.on_gradients(state))
            seen += without
            optimizer.step()
            seen += cpu_seconds(lambda: health.on_step(state)) + cpu_seconds(watchdog.beat)
            optimizer.clear_grad(set_to_zero=False)
            whole.append(time.process_time() - start - with_norm)
            every.append(seen)
            check.append(cpu_seconds(lambda: health.on_log(state, {})) + max(0.0, with_norm - without))
    return [statistics.median(times[1:]) for times in (whole, every, check)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--print-batch-step", type=int, default=20)
    arguments = parser.parse_args()
    tune_cpu()
    rows = []
    for class_num in (62, 93_431):
        with tempfile.TemporaryDirectory() as folder:
            step, every, check = measure(class_num, arguments.batch_size, arguments.steps, Path(folder))
        part = every + check / arguments.print_batch_step
        rows.append([
            f"MobileFaceNet, {class_num:,} classes", f"{1e3 * step:.0f}", f"{1e3 * every:.2f}", f"{1e3 * check:.2f}",
            f"{100 * part / step:.2f} %",
        ])  # fmt: skip
    print(f"Batch {arguments.batch_size}, CPU milliseconds of one step, a check every {arguments.print_batch_step}:\n")
    print(table(["network", "step", "checks in it", "a check", "part of a step"], rows))


if __name__ == "__main__":
    main()
