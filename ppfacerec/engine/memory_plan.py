"""Estimate of a training run before it starts: memory of each GPU by part, and bytes sent in a step.

The parts are computed from the shapes, except `OVERHEAD`, an assumption for what cannot be computed (CUDA context,
cuDNN workspace, fragmentation of the allocator). All sizes are bytes.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import paddle
from paddle import nn

from ppfacerec.core.log import table
from ppfacerec.heads.margin_head import GPU_CHUNK

GIB = 1 << 30
OVERHEAD = int(1.5 * GIB)
OPTIMIZER_SLOTS = {"SGD": 0, "Momentum": 1, "Adam": 2, "AdamW": 2}
_FLOAT32 = 4


@dataclass(frozen=True)
class BackboneSize:
    """Sizes of a backbone."""

    name: str
    num_parameters: int  # trained ones
    activations: int  # elements that one image's forward pass keeps for the backward pass
    recomputed_activations: int  # the same with gradient checkpointing: the blocks' inputs and the largest block
    largest: int  # elements of the largest activation of one image


def measure_backbone(backbone: nn.Layer, name: str) -> BackboneSize:
    """Run one image through a backbone, in eval mode so that no state changes, and count its layers' outputs."""
    outputs: dict[str, int] = {}  # of the leaf layers, in the order of the forward

    def record(name: str, layer: nn.Layer, inputs: Any, output: paddle.Tensor) -> None:
        outputs[name] = int(output.size)

    was_training = backbone.training
    backbone.eval()
    leaves = [(name, layer) for name, layer in backbone.named_sublayers() if not layer.sublayers()]
    hooks = [layer.register_forward_post_hook(partial(record, name)) for name, layer in leaves]
    try:
        with paddle.no_grad():
            backbone(paddle.zeros([1, 3, 112, 112]))
    finally:
        for hook in hooks:
            hook.remove()
        if was_training:
            backbone.train()
    blocks: dict[str, int] = {}  # a block is the parent of leaf layers: layer1.0, or the backbone itself
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


@dataclass(frozen=True)
class TrainingSize:
    """Numbers that determine a run's memory."""

    backbone: BackboneSize
    class_num: int
    embedding_size: int
    batch_size: int  # images per GPU and step
    num_gpus: int = 1
    class_parallel: bool = True  # the classes are sharded over the GPUs; False replicates the head on each
    sample_rate: float = 1.0  # share of the class centres that a step computes
    num_sub_centers: int = 1
    optimizer: str = "Momentum"
    amp: Literal["O1", "O2"] | None = "O1"  # None: float32
    recompute: bool = False  # gradient checkpointing in the backbone

    @property
    def head_rows(self) -> int:
        """Class centres on one GPU."""
        centers = self.class_num * self.num_sub_centers
        return math.ceil(centers / self.num_gpus) if self.class_parallel else centers

    def memory(self) -> dict[str, int]:
        """Return the bytes of one GPU by part."""
        slots = OPTIMIZER_SLOTS[self.optimizer]
        half = 2 if self.amp else _FLOAT32  # bytes of an activation
        row = self.embedding_size * _FLOAT32
        together = self.batch_size * (self.num_gpus if self.class_parallel else 1)  # embeddings that the head receives
        sampled = math.ceil(self.head_rows * self.sample_rate)
        # Sampled rows are a parameter of their own for the optimizer, with its state.
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
        """Return the bytes that a GPU sends in a step; a ring all-reduce of n bytes sends 2 (G - 1) / G n."""
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
        """Return the largest of 1.0, 0.9, ... 0.1, 0.05, 0.02, 0.01 that fits a GPU of `memory` bytes, or None."""
        rates = [r / 10 for r in range(10, 0, -1)] + [0.05, 0.02, 0.01]
        return next((rate for rate in rates if replace(self, sample_rate=rate).total() <= memory), None)


def report(size: TrainingSize, memory: int | None) -> str:
    """Return tables of the memory by part and of the bytes sent, and whether a GPU of `memory` bytes suffices."""
    gpus = f"{size.num_gpus} GPU{'s' if size.num_gpus > 1 else ''}"
    how = "sharded" if size.class_parallel else "replicated"
    parts = sorted(((n, b) for n, b in size.memory().items() if b), key=lambda part: -part[1])
    lines = [
        f"{size.backbone.name}, {size.class_num:,} classes x {size.embedding_size} {how} over {gpus}, batch "
        f"{size.batch_size} per GPU, sample rate {size.sample_rate:g}, {size.optimizer}, AMP "
        f"{size.amp or 'off'}{', recompute' if size.recompute else ''}",
        "",
        table(["memory per GPU", "GiB"], [[n, f"{b / GIB:.2f}"] for n, b in [*parts, ("total", size.total())]]),
    ]
    if size.num_gpus > 1:
        sent = {**size.sent(), "total": sum(size.sent().values())}
        lines += ["", table(["sent per GPU and step", "MiB"], [[n, f"{b / (1 << 20):.1f}"] for n, b in sent.items()])]
    return "\n".join([*lines, *(["", fit(size, memory)] if memory else [])])


def fit(size: TrainingSize, memory: int) -> str:
    """Return a sentence on whether a GPU of `memory` bytes suffices, and what would help if it does not."""
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
