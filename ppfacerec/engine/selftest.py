"""Comparison of this machine with stored numbers: a training step in each precision, and a head on two ranks.

Weights and inputs are sines of squares, not random numbers. The stored numbers are from Paddle 3.3.1 on a CPU.
"""

import platform
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import paddle

from ppfacerec.backbones import BACKBONES
from ppfacerec.core import distributed
from ppfacerec.core.device.runtime import MixedPrecision
from ppfacerec.core.registry import Spec
from ppfacerec.core.version import __version__
from ppfacerec.heads import HEADS
from ppfacerec.losses import CELoss
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.state import TrainState

CLASSES, SAMPLES = 10, 8
STEP = {"loss": 39.08325, "gradient norm": 253.7701, "loss after the step": 29.9025}
HEAD = {"loss": 40.26219, "gradient norm": 5.048757}
# Relative tolerances. TF32, float16 or bfloat16 in every convolution moved them by 1e-3, 1e-3 and 5e-3.
FLOAT32, HALF = 4e-3, 2e-2


class Check(NamedTuple):
    """A number and its stored value."""

    name: str
    expected: float
    found: float
    tolerance: float  # relative to `expected`

    @property
    def passes(self) -> bool:
        return abs(self.found - self.expected) <= self.tolerance * abs(self.expected)  # False for NaN


def wave(shape: Iterable[int], first: int) -> np.ndarray:
    """Return sines of the squares from `first` on: numbers without a pattern that are equal on every machine."""
    shape = tuple(shape)
    squares = np.arange(first, first + int(np.prod(shape)), dtype=np.float64) ** 2
    return np.sin(squares).reshape(shape).astype(np.float32)


def step_numbers(precision: MixedPrecision) -> dict[str, float]:
    """Run one step of MobileFaceNet with ArcMargin and Momentum on eight images."""
    backbone = BACKBONES.build(Spec("MobileFaceNet"))
    recognizer = FaceRecognizer(backbone, _head(backbone.embedding_size, class_parallel=False))
    for number, (_, parameter) in enumerate(recognizer.named_parameters()):
        if parameter.ndim > 1:  # norms and PReLUs are initialised with constants
            fan_in = np.prod(parameter.shape[1:])
            parameter.set_value(wave(parameter.shape, 1000 * number) * np.float32(2 / np.sqrt(fan_in)))
    optimizer = paddle.optimizer.Momentum(2e-4, parameters=recognizer.parameters())
    precision.decorate(backbone, optimizer)
    state = TrainState(recognizer, optimizer, precision=precision)
    recognizer.train()
    images, labels = paddle.to_tensor(wave([SAMPLES, 3, 112, 112], 7)), paddle.arange(SAMPLES)
    losses, norm = [], 0.0
    for _ in range(2):
        with precision.autocast():
            embedding = backbone(images)
        loss = CELoss()(recognizer.scores(embedding, labels), labels)
        losses.append(loss.item())
        if len(losses) == 1:
            precision.scaler.scale(loss).backward()
            scale = precision.scaler.scale(paddle.ones([])).item()
            norm = _norm(p.grad for _, p in state.trained()) / scale
            state.apply_gradients()
    return dict(zip(STEP, [losses[0], norm, losses[1]]))


def head_numbers() -> dict[str, float]:
    """Return loss and gradient of ArcMargin with classes sharded over the ranks; equal for any world size."""
    rank, ranks = distributed.rank(), distributed.world_size()
    head = _head(64, class_parallel=True)
    first, last = head.class_rows.range
    head.weight.set_value(wave([CLASSES, 64], 3)[first:last])
    own = slice(rank * SAMPLES // ranks, (rank + 1) * SAMPLES // ranks)
    embedding = paddle.to_tensor(wave([SAMPLES, 64], 5)[own])
    labels = paddle.arange(SAMPLES)[own]
    loss = CELoss()(head(embedding, labels), labels)
    loss.backward()
    totals = paddle.to_tensor([loss.item() / ranks, _norm([head.weight.grad]) ** 2], "float64")
    mean, square = distributed.sum_tensor(totals).tolist()
    return dict(zip(HEAD, [mean, square**0.5]))


def _head(embedding_size: int, class_parallel: bool) -> paddle.nn.Layer:
    return HEADS.build(
        Spec("ArcMargin"), embedding_size=embedding_size, class_num=CLASSES, class_parallel=class_parallel
    )


def _norm(gradients: Iterable[paddle.Tensor]) -> float:
    return sum(float((g.astype("float32") ** 2).sum()) for g in gradients) ** 0.5


def checks(device: str) -> Iterator[Check]:
    """Yield all checks of this process; on several ranks only those of the sharded head."""
    ranks = distributed.world_size()
    found = head_numbers()
    yield from (Check(f"head, {ranks} rank{'s' * (ranks > 1)}: {k}", v, found[k], FLOAT32) for k, v in HEAD.items())
    if ranks > 1:
        return
    precisions = {"float32": MixedPrecision()}
    if device == "gpu":
        precisions |= {f"{dtype} O1": MixedPrecision("O1", dtype) for dtype in ("float16", "bfloat16")}
    for name, precision in precisions.items():
        found, tolerance = step_numbers(precision), FLOAT32 if name == "float32" else HALF
        yield from (Check(f"step, {name}: {k}", v, found[k], tolerance) for k, v in STEP.items())


def machine(device: str) -> str:
    """Describe the machine for readers of the result."""
    words = [f"ppfacerec {__version__}", f"Paddle {paddle.__version__}", f"Python {platform.python_version()}"]
    if device == "gpu":
        gpu = paddle.device.cuda.get_device_properties()
        words += [
            f"{gpu.name} (sm_{gpu.major}{gpu.minor}, {gpu.total_memory >> 20} MiB)",
            f"CUDA {paddle.version.cuda()}",
        ]
    return ", ".join([*words, platform.platform()])
