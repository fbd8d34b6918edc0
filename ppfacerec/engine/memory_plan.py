"""What a training run takes: memory of each GPU by part, and bytes sent a step; estimated before anything is started.

The parts are counted from the shapes; what cannot be counted (CUDA's context, cuDNN's workspace, holes in the
allocator) is `OVERHEAD`, an assumption. All sizes are bytes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import paddle
from paddle import nn

from ppfacerec.core.log import table
from ppfacerec.heads.margin_head import GPU_CHUNK
from ppfacerec.recognizer import FaceRecognizer

GIB = 1 << 30
OVERHEAD = int(1.5 * GIB)  # CUDA context, cuDNN workspace, fragmentation: assumed
OPTIMIZER_SLOTS = {"SGD": 0, "Momentum": 1, "Adam": 2, "AdamW": 2}
_FLOAT32 = 4


@dataclass(frozen=True)
class BackboneSize:
    """Sizes of a backbone.

    Attributes:
        name: for the table.
        num_parameters: trained ones.
        activations: elements that one image's forward leaves for the backward.
        recomputed_activations: the same with gradient checkpointing: the blocks' inputs and the largest block.
        largest: elements of the largest activation of one image.
    """

    name: str
    num_parameters: int
    activations: int
    recomputed_activations: int
    largest: int


def measure_backbone(backbone: nn.Layer, name: str) -> BackboneSize:
    """Run one image through a backbone (in eval mode, so nothing of it changes) and count what its layers give out."""
    outputs: dict[str, int] = {}
    with _recorded(backbone, outputs):
        backbone(paddle.zeros([1, 3, 112, 112]))
    blocks: dict[str, int] = {}  # a block is what holds leaf layers: layer1.0, or the backbone itself
    for layer, size in outputs.items():
        block = layer.rpartition(".")[0]
        blocks[block] = blocks.get(block, 0) + size
    # A block's output is the input of the next, and its last layer's output has the same size.
    ends = {layer.rpartition(".")[0]: size for layer, size in outputs.items()}
    return BackboneSize(
        name,
        sum(p.size for p in backbone.parameters() if not p.stop_gradient),
        sum(outputs.values()),
        sum(ends.values()) + max(blocks.values()),
        max(outputs.values()),
    )


@contextmanager
def _recorded(backbone: nn.Layer, outputs: dict[str, int]) -> Iterator[None]:
    """Let the leaf layers of `backbone` write the sizes of their outputs, in the order of the forward."""

    def record(name: str) -> Any:
        def hook(layer: nn.Layer, inputs: Any, output: paddle.Tensor) -> None:
            outputs[name] = int(output.size)

        return hook

    was_training = backbone.training
    backbone.eval()
    leaves = [(name, layer) for name, layer in backbone.named_sublayers() if not layer.sublayers()]
    hooks = [layer.register_forward_post_hook(record(name)) for name, layer in leaves]
    try:
        with paddle.no_grad():
            yield
    finally:
        for hook in hooks:
            hook.remove()
        if was_training:
            backbone.train()


@dataclass(frozen=True)
class TrainingSize:
    """The numbers that a run's memory depends on.

    Args:
        backbone: from ``measure_backbone``.
        class_num: identities.
        embedding_size: D.
        batch_size: images a GPU and step.
        num_gpus: processes.
        class_parallel: the classes are sharded over the GPUs; False replicates the head on each.
        sample_rate: share of the class centres that a step computes.
        num_sub_centers: centres a class.
        optimizer: its name; decides on the state a parameter.
        amp: "O1", "O2" or None (float32).
        recompute: gradient checkpointing in the backbone.
    """

    backbone: BackboneSize
    class_num: int
    embedding_size: int
    batch_size: int
    num_gpus: int = 1
    class_parallel: bool = True
    sample_rate: float = 1.0
    num_sub_centers: int = 1
    optimizer: str = "Momentum"
    amp: Literal["O1", "O2"] | None = "O1"
    recompute: bool = False

    @property
    def head_rows(self) -> int:
        """Class centres on one GPU."""
        centers = self.class_num * self.num_sub_centers
        return math.ceil(centers / self.num_gpus) if self.class_parallel else centers

    def memory(self) -> dict[str, int]:
        """Bytes of one GPU by part."""
        slots = OPTIMIZER_SLOTS[self.optimizer]
        half = 2 if self.amp else _FLOAT32  # bytes of an activation
        row = self.embedding_size * _FLOAT32
        together = self.batch_size * (self.num_gpus if self.class_parallel else 1)  # embeddings that the head sees
        sampled = math.ceil(self.head_rows * self.sample_rate)
        # Sampled rows are lent to the optimizer as a parameter of their own, with its state.
        copies = 1 if self.sample_rate == 1 else 2 + slots
        activations = self.backbone.recomputed_activations if self.recompute else self.backbone.activations
        parameters = self.backbone.num_parameters
        return {
            "head weight": self.head_rows * row,
            "head gradient" if copies == 1 else "head's sampled rows, their gradient and state": sampled * row * copies,
            "head optimizer state": self.head_rows * row * slots,
            "head chunk and embeddings": 3 * GPU_CHUNK * _FLOAT32 + 3 * together * row,
            "backbone weights and gradients": parameters * (2 * half + _FLOAT32 if self.amp == "O2" else 2 * _FLOAT32),
            "backbone optimizer state": parameters * _FLOAT32 * slots,
            "backbone activations": self.batch_size * half * (activations + 2 * self.backbone.largest),
            "gradient messages": 2 * min(parameters * _FLOAT32, 64 << 20) if self.num_gpus > 1 else 0,
            "CUDA, cuDNN, fragmentation (assumed)": OVERHEAD,
        }

    def total(self) -> int:
        return sum(self.memory().values())

    def sent(self) -> dict[str, int]:
        """Bytes that one GPU sends a step by purpose; a ring all-reduce of n bytes sends 2 (G - 1) / G n."""
        gpus = self.num_gpus
        reduce = 2 * (gpus - 1) / gpus
        messages = {"backbone gradient, all-reduce": reduce * self.backbone.num_parameters * _FLOAT32}
        if self.class_parallel:
            together = gpus * self.batch_size
            messages["embeddings and labels, all-gather"] = (
                (gpus - 1) * self.batch_size * (self.embedding_size * _FLOAT32 + 8)
            )
            messages["sums of exponentials and targets, all-reduce"] = reduce * together * 3 * _FLOAT32
            messages["embedding gradient, all-reduce"] = reduce * together * self.embedding_size * _FLOAT32
        else:
            messages["head gradient, all-reduce"] = reduce * self.head_rows * self.embedding_size * _FLOAT32
        return {name: round(size) for name, size in messages.items()}

    def fitting_sample_rate(self, memory: int) -> float | None:
        """The largest of 1.0, 0.9, ... 0.1, 0.05, 0.02, 0.01 with which a GPU of `memory` bytes is enough, or None."""
        rates = [r / 10 for r in range(10, 0, -1)] + [0.05, 0.02, 0.01]
        return next((rate for rate in rates if replace(self, sample_rate=rate).total() <= memory), None)


def size_of_run(
    recognizer: FaceRecognizer,
    name: str,
    batch_size: int,
    num_gpus: int,
    optimizer: str,
    amp: Literal["O1", "O2"] | None,
) -> TrainingSize:
    """The sizes of a run whose network is built; `name` is the backbone's, the rest as in ``TrainingSize``."""
    backbone, head = recognizer.backbone, recognizer.traits
    return TrainingSize(
        measure_backbone(backbone, name),
        class_num=head.class_num or 0,
        embedding_size=backbone.embedding_size,
        batch_size=batch_size,
        num_gpus=num_gpus,
        class_parallel=head.class_rows is not None and head.class_rows.shard.world_size > 1,
        sample_rate=head.sample_rate,
        num_sub_centers=head.num_sub_centers,
        optimizer=optimizer,
        amp=amp,
        recompute=getattr(backbone, "recompute", False),
    )


def report(size: TrainingSize, memory: int | None) -> str:
    """Tables of the memory by part and of the bytes sent, and whether it fits into a GPU of `memory` bytes."""
    gpus = f"{size.num_gpus} GPU{'s' if size.num_gpus > 1 else ''}"
    how = "sharded" if size.class_parallel else "replicated"
    lines = [
        f"{size.backbone.name}, {size.class_num:,} classes x {size.embedding_size} {how} over {gpus}, "
        f"batch {size.batch_size} a GPU, sample rate {size.sample_rate:g}, {size.optimizer}, AMP {size.amp or 'off'}"
        f"{', recompute' if size.recompute else ''}",
        "",
        table(
            ["memory of a GPU", "GiB"], [[n, f"{b / GIB:.2f}"] for n, b in [*_by_size(size), ("total", size.total())]]
        ),
    ]
    if size.num_gpus > 1:
        sent = {**size.sent(), "total": sum(size.sent().values())}
        lines += ["", table(["sent by a GPU in a step", "MiB"], [[n, f"{b / (1 << 20):.1f}"] for n, b in sent.items()])]
    return "\n".join([*lines, *(["", fit(size, memory)] if memory else [])])


def _by_size(size: TrainingSize) -> list[tuple[str, int]]:
    return sorted(((n, b) for n, b in size.memory().items() if b), key=lambda part: -part[1])


def fit(size: TrainingSize, memory: int) -> str:
    """One sentence: whether a GPU of `memory` bytes is enough, and what would help if it is not."""
    needed = f"about {size.total() / GIB:.1f} GiB of {memory / GIB:.1f} GiB"
    if size.total() <= memory:
        return f"It fits: {needed}."
    rate = size.fitting_sample_rate(memory) if size.class_parallel else None
    ways = [
        *(["class_parallel: True in Arch.Head"] if not size.class_parallel and size.num_gpus > 1 else []),
        *([f"sample_rate: {rate:g} in Arch.Head"] if rate is not None else []),
        *(["AMP"] if size.amp is None else []),
        *(["recompute: True in Arch.Backbone (IResNet)"] if not size.recompute else []),
        "a smaller batch with Global.update_freq",
        "more GPUs",
    ]
    return f"It does not fit: {needed}. What helps: {'; '.join(ways)}."
