"""An optimizer's state by structured parameter names, for any world size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from ppfacerec.optim.state import state_of
from ppfacerec.recognizer import HEAD_WEIGHT
from ppfacerec.training.checkpoints.saved_layout import from_saved
from ppfacerec.training.state import TrainState


def optimizer_tensors(state: TrainState) -> dict[str, dict[str, paddle.Tensor]]:
    """Return this rank's optimizer state by structured names: ``{"head.weight": {"moment1_0": ...}}``.

    Paddle's own keys begin with automatic names (linear_0.w_0), which depend on what was built before.
    """
    structured = {tensor.name: name for name, tensor in _trained(state).items()}
    found: dict[str, dict[str, paddle.Tensor]] = {}
    for key, value in _flat(state_of(state.optimizer)).items():
        owner = max((name for name in structured if key.startswith(f"{name}_")), key=len)
        name, slot = structured[owner], key[len(owner) + 1 :]
        if state.sparse is not None and name == HEAD_WEIGHT:
            value = state.sparse.slots.get(slot, value)
        found.setdefault(name, {})[slot] = value
    return found


def _trained(state: TrainState) -> dict[str, paddle.Tensor]:
    """Return the trainable parameters by structured names; sampled rows represent the whole weight."""
    tensors = state.recognizer.state_dict()
    return tensors if state.sparse is None else {**tensors, HEAD_WEIGHT: state.sparse.active.parameter}


_MASTER = "master_weight"


def _flat(state: Mapping[str, Any]) -> dict[str, paddle.Tensor]:
    """Merge the float32 master weights of AMP O2, a nested dict in Paddle, with the other tensors."""
    masters = state.get("master_weights") or {}
    plain = {k: v for k, v in state.items() if isinstance(v, paddle.Tensor)}
    return {**plain, **{f"{name}_{_MASTER}": tensor for name, tensor in masters.items()}}


def set_optimizer_state(state: TrainState, saved: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Load saved state into a fresh optimizer, for any world size; raise a ValueError for unknown parameters."""
    automatic = {name: tensor.name for name, tensor in _trained(state).items()}
    unknown = [name for name in saved if name not in automatic]
    if unknown:
        raise ValueError(f"The checkpoint's optimizer state has {unknown[:3]}, which the network does not have.")
    sparse = state.sparse
    tensors: dict[str, Any] = {}
    masters = {}
    for name, slots in saved.items():
        for slot, value in slots.items():
            tensor = paddle.to_tensor(from_saved(state.recognizer, name, value))
            if slot == _MASTER:
                masters[automatic[name]] = tensor
                continue
            if sparse is not None and name == HEAD_WEIGHT and tensor.shape == sparse.active.weight.shape:
                sparse.slots[slot], tensor = tensor, paddle.zeros_like(sparse.active.parameter)
            tensors[f"{automatic[name]}_{slot}"] = tensor
    if masters:
        tensors["master_weights"] = masters
    state.optimizer.set_state_dict(tensors)
