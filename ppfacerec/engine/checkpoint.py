"""Checkpoints: complete or absent, under PaddleClas's names.

A checkpoint `latest` is the three files latest.pdparams (weights), latest.pdopt (optimizer) and latest.pdstates (where
training was, the average, the best metric), and latest.manifest.json with their sizes and SHA-256. The files are
written under other names first; the manifest's rename is the moment at which the new checkpoint counts. What a kill
leaves undone after that moment is finished by whoever opens the checkpoint next.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np
import paddle

from ppfacerec import distributed, safe_pickle
from ppfacerec.engine.saved_state import from_saved, saved_arrays, to_saved
from ppfacerec.optim.sparse_update import SparseUpdate
from ppfacerec.recognizer import HEAD_WEIGHT, FaceRecognizer

SUFFIXES = (".pdparams", ".pdopt", ".pdstates")


@dataclass
class Progress:
    """Where training is.

    Attributes:
        epoch: the epoch being trained, from 1.
        iteration: its finished batches.
        global_step: finished optimizer steps of all epochs.
        best_accuracy: highest average accuracy so far, or None.
        best_epoch: the epoch that gave it.
    """

    epoch: int = 1
    iteration: int = 0
    global_step: int = 0
    best_accuracy: Optional[float] = None
    best_epoch: int = 0


def save_checkpoint(
    prefix: Path,
    recognizer: FaceRecognizer,
    optimizer: paddle.optimizer.Optimizer,
    states: Mapping[str, Any],
    sparse: Optional[SparseUpdate] = None,
) -> None:
    """Write a checkpoint; at every moment the old or the new one is complete. All processes call it, rank 0 writes.

    Args:
        prefix: output_dir / "latest", without suffix.
        states: plain values and arrays for .pdstates.
        sparse: what holds the state of the head's rows, where only sampled ones are updated.
    """
    weights = saved_arrays(recognizer, recognizer.state_dict())
    optimizer_arrays = optimizer_state(recognizer, optimizer, sparse)
    if distributed.rank() != 0:
        return
    finish_interrupted_save(prefix)
    writers: dict[str, Callable[[Path], None]] = {
        ".pdparams": lambda path: paddle.save({k: paddle.to_tensor(v) for k, v in weights.items()}, str(path)),
        ".pdopt": lambda path: _dump(optimizer_arrays, path),
        ".pdstates": lambda path: _dump(dict(states), path),
    }
    manifest = {}
    for suffix, write in writers.items():
        path = _new(prefix, suffix)
        write(path)
        _sync(path)
        manifest[suffix] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    path = _new(prefix, ".manifest.json")
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    _sync(path)
    os.replace(path, _file(prefix, ".manifest.json"))  # from here on the new checkpoint counts
    finish_interrupted_save(prefix)


def load_states(prefix: Union[str, Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check a checkpoint against its manifest; return the content of .pdopt and .pdstates.

    Raises:
        ValueError: a file is missing or is not the one that was saved; the message names it.
    """
    prefix = _plain(prefix)
    manifest_path = _file(prefix, ".manifest.json")
    if not manifest_path.is_file():
        raise ValueError(
            f"{manifest_path} is missing, so {prefix} cannot be resumed from: it tells which files belong together. "
            "To start from the weights alone, give them as Global.pretrained_model."
        )
    for suffix, expected in json.loads(manifest_path.read_text(encoding="utf-8")).items():
        path = _file(prefix, suffix)
        if not path.is_file():
            raise ValueError(f"Checkpoint {prefix} is incomplete: {path} is missing. Resume from another checkpoint.")
        if path.stat().st_size != expected["size"] or _sha256(path) != expected["sha256"]:
            raise ValueError(
                f"Checkpoint {prefix} is damaged: {path} is not the file that was saved ({path.stat().st_size} bytes "
                f"for {expected['size']}, or another content). Resume from another checkpoint."
            )
    return safe_pickle.load(_file(prefix, ".pdopt")), safe_pickle.load(_file(prefix, ".pdstates"))


def optimizer_state(
    recognizer: FaceRecognizer, optimizer: paddle.optimizer.Optimizer, sparse: Optional[SparseUpdate] = None
) -> dict[str, dict[str, np.ndarray]]:
    """Optimizer state by the parameters' structured names: ``{"head.weight": {"moment1_0": ...}}``.

    Paddle's own keys begin with automatic names (linear_0.w_0), which depend on what was built before.
    """
    structured = {tensor.name: name for name, tensor in _trained(recognizer).items()}
    state: dict[str, dict[str, np.ndarray]] = {}
    for key, value in _flat(optimizer.state_dict()).items():
        owner = max((name for name in structured if key.startswith(f"{name}_")), key=len)
        name, slot = structured[owner], key[len(owner) + 1 :]
        if sparse is not None and name == HEAD_WEIGHT:
            value = sparse.slots.get(slot, value)
        state.setdefault(name, {})[slot] = to_saved(recognizer, name, value)
    return state


def _trained(recognizer: FaceRecognizer) -> dict[str, paddle.Tensor]:
    """What the optimizer may train, by structured names; sampled rows stand for the whole weight."""
    active = getattr(recognizer.head, "active", None)
    tensors = recognizer.state_dict()
    return tensors if active is None else {**tensors, HEAD_WEIGHT: active.parameter}


_MASTER = "master_weight"


def _flat(state: Mapping[str, Any]) -> dict[str, paddle.Tensor]:
    """Put the float32 master weights of AMP O2, a dict of their own in Paddle, beside the other tensors."""
    masters = state.get("master_weights") or {}
    plain = {k: v for k, v in state.items() if isinstance(v, paddle.Tensor)}
    return {**plain, **{f"{name}_{_MASTER}": tensor for name, tensor in masters.items()}}


def set_optimizer_state(
    recognizer: FaceRecognizer,
    optimizer: paddle.optimizer.Optimizer,
    state: Mapping[str, Mapping[str, np.ndarray]],
    sparse: Optional[SparseUpdate] = None,
) -> None:
    """Give a fresh optimizer the state that ``optimizer_state`` returned, in any number of processes.

    Raises:
        ValueError: the state has a parameter that the network has not.
    """
    trained = _trained(recognizer)
    automatic = {name: tensor.name for name, tensor in trained.items()}
    unknown = [name for name in state if name not in automatic]
    if unknown:
        raise ValueError(f"The checkpoint's optimizer state has {unknown[:3]}, which the network has not.")
    tensors: dict[str, Any] = {}
    masters = {}
    for name, slots in state.items():
        for slot, value in slots.items():
            tensor = paddle.to_tensor(from_saved(recognizer, name, value))
            if slot == _MASTER:
                masters[automatic[name]] = tensor
                continue
            if sparse is not None and name == HEAD_WEIGHT and tensor.shape == sparse.active.weight.shape:
                sparse.slots[slot], tensor = tensor, paddle.zeros_like(sparse.active.parameter)
            tensors[f"{automatic[name]}_{slot}"] = tensor
    if masters:
        tensors["master_weights"] = masters
    optimizer.set_state_dict(tensors)


def _plain(prefix: Union[str, Path]) -> Path:
    """output/X/latest, also where a person wrote output/X/latest.pdparams."""
    text = str(prefix)
    return Path(text[: -len(".pdparams")] if text.endswith(".pdparams") else text)


def _file(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _new(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(f"{prefix.name}{suffix}.new")


def _dump(value: Any, path: Path) -> None:
    with open(path, "wb") as file:
        pickle.dump(value, file, protocol=4)


def finish_interrupted_save(prefix: Union[str, Path]) -> None:
    """Move the files of a save that was killed after its manifest counted; remove those of one killed before."""
    prefix = _plain(prefix)
    manifest_path = _file(prefix, ".manifest.json")
    manifest = json.loads(manifest_path.read_text(encoding="utf-8")) if manifest_path.is_file() else {}
    for suffix in SUFFIXES:
        path = _new(prefix, suffix)
        if not path.is_file():
            continue
        if suffix in manifest and _sha256(path) == manifest[suffix]["sha256"]:
            os.replace(path, _file(prefix, suffix))
        else:
            path.unlink()
    _new(prefix, ".manifest.json").unlink(missing_ok=True)
    if prefix.parent.is_dir():
        _sync(prefix.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
