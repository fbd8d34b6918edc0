"""Run under the launcher by test_many_processes.py: every head's loss and gradients, written by rank 0 to argv[1]."""

from __future__ import annotations

import sys

import numpy as np
import paddle
import plain_heads as plain

from ppfacerec.core import distributed
from ppfacerec.heads import HEADS
from ppfacerec.heads.sampling import sample_classes
from ppfacerec.heads.sharding import ClassShard
from ppfacerec.losses import CELoss, WeightedSum
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.checkpoints.saved_layout import to_saved

B, D, C = 13, 8, 23  # no number of ranks but 1 divides the batch or the classes
OPTIONS = [
    {},
    {"class_parallel": False},
    {"num_sub_centers": 2, "interclass_filtering_threshold": 0.3},
    {"scale": 200.0},
]
SAMPLING = [
    {"sample_rate": 0.4},
    {"sample_rate": 0.4, "sparse_update": False},
    {"sample_rate": 0.4, "class_parallel": False},
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
    found = {"loss": mean}
    found |= {f"grad {name}": to_saved(recognizer, name, p.grad) for name, p in recognizer.named_parameters()}
    return found | {name: to_saved(recognizer, name, t) for name, t in recognizer.state_dict().items()}


def check_sampling(head: plain.Plain, options: dict) -> None:
    """The loss is that of the classes which the parts draw, each by (seed, step, part)."""
    rank, world_size = distributed.rank(), distributed.world_size()
    paddle.seed(7)
    options = {"class_parallel": True, "chunk_size": 3, **options}
    ours = HEADS.get(head.name)(D, C, **head.arguments, **options)
    ours.begin_step(3, 11)
    rng = np.random.default_rng(8)
    x, y = 20 * rng.standard_normal((B, D)).astype("float32"), rng.integers(0, C, B)
    own = np.array_split(np.arange(B), world_size)[rank]
    labels = paddle.to_tensor(y[own])
    scores = ours(paddle.to_tensor(x[own], stop_gradient=False), labels)
    loss = CELoss()(scores, labels) + sum(scores.penalties.values())
    loss.backward()
    mean = distributed.sum_tensor(loss.detach() * (len(own) / B)).item()
    drawn = []
    for part in range(ours.shard.world_size):
        shard = ClassShard(C, part, ours.shard.world_size)
        positions = shard.positions(y)
        positives = np.unique(positions[positions >= 0])
        drawn += list(shard.start + sample_classes(shard.size, 0.4, positives, (3, 11, part)))
    if ours.active is not None:
        ours.active.store()
    weight = to_saved(FaceRecognizer(Line(), ours), "head.weight", ours.weight).T.astype("float64")
    if rank == 0:
        x = x.astype("float64")
        expected = plain.loss(head, x, weight, y, plain.constants(x, weight, y), classes=drawn)
        np.testing.assert_allclose(mean, expected, rtol=1e-5, err_msg=f"{head.id} {options}")


def main() -> None:
    paddle.set_device("cpu")
    distributed.init()
    found = {}
    for head in plain.HEADS:
        for options in OPTIONS:
            for name, array in results(head, options).items():
                found[f"{head.id} {options} {name}"] = array
        for options in SAMPLING:
            check_sampling(head, options)
    if distributed.rank() == 0:
        np.savez(sys.argv[1], **found)


main()
