"""Run under the launcher by test_many_processes.py: every head's loss and gradients, written by rank 0 to argv[1]."""

from __future__ import annotations

import sys

import numpy as np
import paddle
import plain_heads as plain

from ppfacerec import distributed
from ppfacerec.engine.saved_state import to_saved
from ppfacerec.heads import HEADS
from ppfacerec.losses import CELoss, WeightedSum
from ppfacerec.recognizer import FaceRecognizer

B, D, C = 13, 8, 23  # no number of ranks but 1 divides the batch or the classes
OPTIONS = [
    {},
    {"class_parallel": False},
    {"num_sub_centers": 2, "interclass_filtering_threshold": 0.3},
    {"scale": 200.0},
    {"sample_rate": 0.99, "sparse_update": False},  # with 23 classes: one is left out in each part
]


class Line(paddle.nn.Layer):
    embedding_size = D

    def __init__(self) -> None:
        super().__init__()
        self.fc = paddle.nn.Linear(10, D)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return 20 * self.fc(x)


def results(head: plain.Plain, options: dict) -> dict[str, np.ndarray]:
    """Two batches forward and backward, as the trainer does it: the gradients of both add up."""
    rank, world_size = distributed.rank(), distributed.world_size()
    sampling = options.get("sample_rate", 1.0) < 1
    paddle.seed(7)
    options = {"class_parallel": True, "chunk_size": 5, **options}
    recognizer = FaceRecognizer(Line(), HEADS.get(head.name)(D, C, **head.arguments, **options))
    rng, losses = np.random.default_rng(3), WeightedSum({"CELoss": (CELoss(), 1.0)})
    mean = np.zeros(1)
    for _ in range(2):
        x, y = rng.standard_normal((B, 10)).astype("float32"), rng.integers(0, C, B)
        own = np.array_split(np.arange(B), world_size)[rank]
        labels = paddle.to_tensor(y[own])
        loss = losses(recognizer.scores(recognizer(paddle.to_tensor(x[own])), labels), labels)["loss"]
        (loss * (len(own) * world_size / B)).backward()
        mean += distributed.sum_tensor(loss.detach() * (len(own) / B)).item()
    trained = recognizer.parameters()
    distributed.average_tensors(p.grad for p in trained if not p.is_distributed)
    found = {} if sampling else {"loss": mean}
    for name, parameter in recognizer.named_parameters():
        gradient = to_saved(recognizer, name, parameter.grad)
        found[f"grad {name}"] = gradient
    found |= {name: to_saved(recognizer, name, t) for name, t in recognizer.state_dict().items()}
    if sampling:  # each number of ranks samples other classes; what can be said is that all is finite
        assert all(np.isfinite(v).all() for v in found.values())
        return {}
    return found


def main() -> None:
    paddle.set_device("cpu")
    distributed.init()
    found = {}
    for head in plain.HEADS:
        for options in OPTIONS:
            for name, array in results(head, options).items():
                found[f"{head.id} {options} {name}"] = array
    if distributed.rank() == 0:
        np.savez(sys.argv[1], **found)


main()
