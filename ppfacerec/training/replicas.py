"""Replicas of a network on the ranks: synchronise gradients and batch-norm statistics, verify equality."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import paddle

from ppfacerec.core import distributed
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.callbacks import Callback
from ppfacerec.training.checkpoints.optimizer_state import optimizer_tensors
from ppfacerec.training.state import TrainState


class Replicas:
    """Keep the ranks' replicas of a recognizer equal while they train on different samples."""

    def __init__(self, recognizer: FaceRecognizer) -> None:
        self._backbone = recognizer.backbone
        # State changed without gradients: batch-norm statistics, which are parameters in Paddle, and other buffers.
        buffers = {id(buffer) for buffer in recognizer.backbone.buffers()}
        self._statistics = [
            tensor
            for name, tensor in recognizer.backbone.state_dict().items()
            if "float" in str(tensor.dtype) and (id(tensor) in buffers or name.endswith(("_mean", "_variance")))
        ]
        self._parallel: paddle.DataParallel | None = None
        if distributed.world_size() > 1 and any(not p.stop_gradient for p in recognizer.backbone.parameters()):
            # Averages the backbone's gradients during the backward.
            self._parallel = paddle.DataParallel(recognizer.backbone)
        backbones = {id(p) for p in recognizer.backbone.parameters()}
        # The head's are averaged here: DataParallel wraps a forward, and a sharded or sampled head has parameters that
        # must not be averaged, or that belong to other classes at each step.
        self._others = [p for p in recognizer.parameters() if id(p) not in backbones and not p.is_distributed]

    def embed(self, images: paddle.Tensor) -> paddle.Tensor:
        """Return embeddings (N, D) of this rank's images (N, 3, 112, 112)."""
        return (self._parallel or self._backbone)(images)

    def apart(self) -> AbstractContextManager[None]:
        """Accumulate gradients on this rank only, inside the block; a later backward averages them."""
        return self._parallel.no_sync() if self._parallel is not None else nullcontext()

    def average(self, bn_sync: Literal["average", "broadcast"]) -> None:
        """Make gradients and batch-norm statistics equal on all ranks, after the last backward of an optimizer step.

        DataParallel averages the backbone's gradients. Statistics are averaged, or rank 0's are sent (`bn_sync`), after
        every step, so that saving and evaluating do not affect the training.
        """
        distributed.average_tensors(p.grad for p in self._others if p.grad is not None)
        if bn_sync == "average":
            distributed.average_tensors(self._statistics)
        else:
            distributed.broadcast_tensors(self._statistics)


def check_replicas(state: TrainState) -> None:
    """Compare weights, optimizer, averages and progress of all ranks; raise a ValueError on all if they differ."""
    if distributed.world_size() == 1:
        return
    digests = {name: _digest(tensors) for name, tensors in _replicated(state)}
    digests["progress"] = str(state.progress)
    found = [json.loads(text) for text in distributed.gather_texts(json.dumps(digests))]
    different = [
        name for name in dict.fromkeys(key for one in found for key in one)
        if len({one.get(name) for one in found}) > 1
    ]  # fmt: skip
    if different:
        others = [rank for rank, one in enumerate(found) if one != found[0]]
        shown = ", ".join(different[:5]) + (", ..." if len(different) > 5 else "")
        raise ValueError(
            f"The processes do not train the same network: {len(different)} of {len(digests)} tensors and values "
            f"differ from rank 0's on rank {', '.join(map(str, others))} ({shown}; {distributed.describe_ranks()}). "
            "Do all have the same files at Global.checkpoints and Global.pretrained_model?"
        )


def _replicated(state: TrainState) -> Iterable[tuple[str, Iterable[paddle.Tensor]]]:
    """Return all replicated tensors by name."""
    weights = state.recognizer.state_dict()
    own = {name for name, tensor in weights.items() if getattr(tensor, "is_distributed", False)}
    averages = state.ema.tensors() if state.ema else {}
    for name, tensor in weights.items():
        if name not in own:
            yield name, [tensor, *([averages[name]] if name in averages else [])]
    for name, slots in optimizer_tensors(state).items():
        if name not in own:
            yield f"optimizer.{name}", [slots[slot] for slot in sorted(slots)]


def _digest(tensors: Iterable[paddle.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().astype("float32").numpy() if "float" in str(tensor.dtype) else tensor.numpy()
        digest.update(array.tobytes())
    return digest.hexdigest()


class ReplicaCheck(Callback):
    """Compare the replicas before the first step, and every so many optimizer steps; 0: only at the start."""

    def __init__(self, steps: int = 0) -> None:
        self._steps = steps

    def on_train_begin(self, state: TrainState) -> None:
        check_replicas(state)

    def on_step(self, state: TrainState) -> None:
        if self._steps and state.progress.global_step % self._steps == 0:
            check_replicas(state)
