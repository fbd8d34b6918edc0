"""How long does a checkpoint hold training up, in the background and in the foreground?

    python benchmarks/checkpoint.py

The pause is the time that ``Saver.save`` takes in the training's own thread. The two are measured in turn, in one run;
the files of both are compared. For the smaller network also training steps are timed, without a save and while one is
written.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import paddle

from ppfacerec.backbones import IResNet50, MobileFaceNet
from ppfacerec.config.schema import GlobalSection
from ppfacerec.core.device.runtime import choose_device
from ppfacerec.core.log import logger
from ppfacerec.engine.build import save_plan
from ppfacerec.heads import ArcMargin
from ppfacerec.losses import CELoss
from ppfacerec.optim import OPTIMIZERS, parameter_groups
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.checkpoints.saver import Saver
from ppfacerec.training.state import TrainState

CLASSES = 93_431  # MS1MV3


class Training:
    """A network of real size, its optimizer, and a step on random images."""

    def __init__(self, backbone: paddle.nn.Layer, optimizer: str, batch_size: int) -> None:
        self.recognizer = FaceRecognizer(backbone, ArcMargin(backbone.embedding_size, CLASSES))
        self.optimizer = OPTIMIZERS.get(optimizer)(groups=parameter_groups([self.recognizer], 5e-4, True))
        self.optimizer.set_lr(0.01)
        rng = np.random.default_rng(0)
        self.images = paddle.to_tensor(rng.standard_normal((batch_size, 3, 112, 112), np.float32))
        self.labels = paddle.to_tensor(rng.integers(0, CLASSES, batch_size))
        self.step()

    def step(self) -> float:
        """Seconds of one step."""
        began = time.perf_counter()
        loss = CELoss()(self.recognizer.scores(self.recognizer(self.images), self.labels), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad(set_to_zero=False)
        return time.perf_counter() - began

    def saver(self, folder: Path, background: bool) -> Saver:
        plan = save_plan(GlobalSection(output_dir=str(folder), save_in_background=background))
        return Saver(plan, TrainState(self.recognizer, self.optimizer), {})


def pauses(training: Training, folder: Path, rounds: int) -> dict[bool, list[float]]:
    """Seconds that saving takes from training, in the background (True) and in the foreground."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds + 1):
        for background in (True, False):
            target = folder / str(background)
            target.mkdir(exist_ok=True)
            with training.saver(target, background) as saver:
                began = time.perf_counter()
                saver.save("latest")
                if number:  # the first of each makes the files and warms up
                    found[background].append(time.perf_counter() - began)
    for suffix in (".pdparams", ".pdopt"):
        one, other = ((folder / str(b) / f"latest{suffix}").read_bytes() for b in (True, False))
        assert one == other, f"latest{suffix} differs"
    return found


def slow_down(training: Training, folder: Path, rounds: int) -> tuple[float, float]:
    """Median seconds of a step without a save, and of one while a save is being written."""
    alone, beside = [], []
    with training.saver(folder, True) as saver:
        for _ in range(rounds):
            saver.finish()
            alone.append(training.step())
            saver.save("latest")
            beside.append(training.step())
    return statistics.median(alone), statistics.median(beside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder unless given")
    options = parser.parse_args()
    logger.setLevel("WARNING")
    choose_device("cpu")
    paddle.seed(0)
    networks = [
        ("MobileFaceNet, 128, AdamW", lambda: Training(MobileFaceNet(), "AdamW", 32)),
        ("IResNet50, 512, Momentum", lambda: Training(IResNet50(), "Momentum", 2)),
    ]
    print(f"{CLASSES:,} classes, median of {options.rounds} saves in turn\n")
    print("| network | MiB | pause in the foreground, s | in the background, s | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for label, build in networks:
            training = build()
            found = {key: statistics.median(values) for key, values in pauses(training, folder, options.rounds).items()}
            size = sum(path.stat().st_size for path in (folder / "True").glob("latest.*")) / 2**20
            front, back = found[False], found[True]
            print(f"| {label} | {size:,.0f} | {front:.2f} | {back:.2f} | {front / back:.1f} |", flush=True)
            if label.startswith("Mobile"):
                alone, beside = slow_down(training, folder, options.rounds)
        print(
            f"\nA step of MobileFaceNet, batch 32, one thread: {alone:.2f} s; while a checkpoint is written beside it:"
        )
        print(f"{beside:.2f} s, {beside / alone:.2f} times.")


if __name__ == "__main__":
    main()
