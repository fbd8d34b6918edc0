"""Snapshots: the contents of a checkpoint, copied to host memory between two steps."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import paddle

from ppfacerec.core import distributed
from ppfacerec.recognizer import HEAD_WEIGHT, FaceRecognizer
from ppfacerec.training.checkpoints.files.head_shards import SUFFIX
from ppfacerec.training.checkpoints.optimizer_state import optimizer_tensors
from ppfacerec.training.checkpoints.saved_layout import saved_arrays, to_saved
from ppfacerec.training.state import TrainState
from ppfacerec.weights.info import ModelInfo

HeadFiles = Literal["whole", "shards", "none"]


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint's contents in host memory, which can be written while training continues."""

    files: Mapping[str, Mapping[str, Any]]  # by suffix, the contents of this rank's files
    rows: Mapping[str, Mapping[str, Any]]  # by suffix, the rows of the head in the file: first, last and columns
    is_spread: bool  # each rank writes files, whose entries the manifest needs
    run: str  # this and `progress` are for the manifest
    progress: Mapping[str, Any]
    info: ModelInfo | None  # how to use the weights, for a file beside them

    def num_bytes(self) -> int:
        return sum(_num_bytes(content) for content in self.files.values())


def take_snapshot(
    state: TrainState, facts: Mapping[str, Any], head: HeadFiles = "whole", info: ModelInfo | None = None
) -> Snapshot:
    """Copy the contents of a checkpoint. All ranks call it; rank 0 gets all that is not in shards.

    Args:
        facts: plain values and arrays for .pdstates; "run" is also for the manifest.
        head: "whole": head.weight is in the files as in PaddleClas; "shards": each rank writes its classes to a file
            of its own; "none": omitted.
        info: how to use the weights.
    """
    recognizer = state.recognizer
    weights: dict[str, Any] = dict(recognizer.state_dict())
    optimizers: dict[str, Any] = optimizer_tensors(state)
    averages: dict[str, Any] = dict(state.ema.tensors()) if state.ema else {}
    shard: dict[str, Any] = {}
    rows: dict[str, Any] = {}
    if head != "whole":
        taken = _take_head(weights, optimizers, averages)
    if head == "shards":
        shard, rows = _own_shard(recognizer, taken)
    weights, averages = saved_arrays(recognizer, weights), saved_arrays(recognizer, averages)
    optimizers = {
        name: {slot: to_saved(recognizer, name, tensor) for slot, tensor in slots.items()}
        for name, slots in optimizers.items()
    }
    scaler = state.precision.scaler.state_dict()
    states = {
        **facts,
        "progress": asdict(state.progress),
        "scaler": {k: v.numpy() if isinstance(v, paddle.Tensor) else v for k, v in scaler.items()},
        **({"ema": averages} if state.ema else {}),
    }
    # The table makes paddle.load return tensors; the names in it have no meaning.
    named = {**weights, "StructuredToParameterName@@": {name: name for name in weights}}
    main = {".pdparams": named, ".pdopt": optimizers, ".pdstates": states} if distributed.rank() == 0 else {}
    class_rows = state.head.class_rows
    is_spread = head == "shards" and class_rows is not None and class_rows.shard.world_size > 1
    return Snapshot({**main, **shard}, rows, is_spread, facts.get("run", ""), states["progress"], info)


def _take_head(
    weights: dict[str, Any], optimizers: dict[str, Any], averages: dict[str, Any]
) -> dict[str, paddle.Tensor]:
    """Remove everything with a row for each class, and return it."""
    shape = weights[HEAD_WEIGHT].shape
    slots = optimizers.get(HEAD_WEIGHT, {})
    rows = {"weight": weights.pop(HEAD_WEIGHT)}
    if averages:
        rows["ema"] = averages.pop(HEAD_WEIGHT)
    rows |= {f"optimizer.{slot}": slots.pop(slot) for slot in list(slots) if slots[slot].shape == shape}
    return rows


def _own_shard(
    recognizer: FaceRecognizer, tensors: Mapping[str, paddle.Tensor]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the contents of this rank's head shard by suffix, and its rows."""
    class_rows = recognizer.traits.class_rows
    assert class_rows is not None, "only such a head is saved in shards"
    part = class_rows.shard
    if part.world_size == 1 and distributed.rank() != 0:
        return {}, {}
    suffix = f".head_{part.rank}_of_{part.world_size}{SUFFIX}"
    place = {"rows": list(class_rows.range), "columns": class_rows.embedding_size}
    return {suffix: {name: tensor.numpy() for name, tensor in tensors.items()}}, {suffix: place}


def _num_bytes(content: Any) -> int:
    if isinstance(content, Mapping):
        return sum(_num_bytes(value) for value in content.values())
    return content.nbytes if isinstance(content, np.ndarray) else 0
