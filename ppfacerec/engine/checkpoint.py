"""Checkpoints: complete or absent, under PaddleClas's names.

A checkpoint `latest` is the three files latest.pdparams (weights), latest.pdopt (optimizer) and latest.pdstates (where
training was, the average, the best metric), and latest.manifest.json with their sizes and SHA-256. The files are
written under other names first; the manifest's rename is the moment at which the new checkpoint counts. What a kill
leaves undone after that moment is finished by whoever opens the checkpoint next. A large head is in further files,
one a process (head_shards.py), which the manifest describes too.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Literal, Optional, Union

import paddle

from ppfacerec import distributed, safe_pickle
from ppfacerec.engine.ema import EMA
from ppfacerec.engine.head_shards import SUFFIX, ShardReader, shard_files, shard_suffix
from ppfacerec.engine.optimizer_state import optimizer_tensors, saved_slots
from ppfacerec.engine.saved_state import saved_arrays
from ppfacerec.heads import MarginHead
from ppfacerec.optim.sparse_update import SparseUpdate
from ppfacerec.recognizer import HEAD_WEIGHT, FaceRecognizer

SUFFIXES = (".pdparams", ".pdopt", ".pdstates")
HeadFiles = Literal["whole", "shards", "none"]


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
    ema: Optional[EMA] = None,
    head: HeadFiles = "whole",
) -> None:
    """Write a checkpoint; at every moment the old or the new one is complete. All processes call it.

    Args:
        prefix: output_dir / "latest", without suffix.
        states: plain values and arrays for .pdstates.
        sparse: what holds the state of the head's rows, where only sampled ones are updated.
        ema: its averages go into .pdstates.
        head: "whole": head.weight is in the files as PaddleClas has it; "shards": each process writes its classes to a
            file of its own; "none": left out.
    """
    weights: dict[str, Any] = dict(recognizer.state_dict())
    optimizers: dict[str, Any] = optimizer_tensors(recognizer, optimizer, sparse)
    averages: dict[str, Any] = dict(ema.tensors()) if ema else {}
    manifest, main = {}, distributed.rank() == 0
    if main:
        finish_interrupted_save(prefix)
    if head != "whole":
        rows = _take_head(recognizer, weights, optimizers, averages)
    if head == "shards":
        distributed.barrier()  # rank 0 has cleared away what an interrupted save left
        assert isinstance(recognizer.head, MarginHead)
        manifest = _write_shard(prefix, recognizer.head, rows)
    weights, averages = saved_arrays(recognizer, weights), saved_arrays(recognizer, averages)
    optimizers = {name: saved_slots(recognizer, name, slots) for name, slots in optimizers.items()}
    if not main:
        return
    everything = {**states, "ema": averages} if ema else dict(states)
    writers: dict[str, Callable[[Path], None]] = {
        ".pdparams": lambda path: paddle.save({k: paddle.to_tensor(v) for k, v in weights.items()}, str(path)),
        ".pdopt": lambda path: _dump(optimizers, path),
        ".pdstates": lambda path: _dump(everything, path),
    }
    for suffix, write in writers.items():
        manifest[suffix] = _write_new(prefix, suffix, write)
    path = _new(prefix, ".manifest.json")
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    _sync(path)
    os.replace(path, _file(prefix, ".manifest.json"))  # from here on the new checkpoint counts
    finish_interrupted_save(prefix)


def _write_new(prefix: Path, suffix: str, write: Callable[[Path], None]) -> dict[str, Any]:
    path = _new(prefix, suffix)
    write(path)
    _sync(path)
    return {"size": path.stat().st_size, "sha256": _sha256(path)}


def _take_head(
    recognizer: FaceRecognizer, weights: dict[str, Any], optimizers: dict[str, Any], averages: dict[str, Any]
) -> dict[str, paddle.Tensor]:
    """Remove all that has a row for each class, and return it."""
    shape = weights[HEAD_WEIGHT].shape
    slots = optimizers.get(HEAD_WEIGHT, {})
    rows = {"weight": weights.pop(HEAD_WEIGHT)}
    if averages:
        rows["ema"] = averages.pop(HEAD_WEIGHT)
    rows |= {f"optimizer.{slot}": slots.pop(slot) for slot in list(slots) if slots[slot].shape == shape}
    return rows


def _write_shard(prefix: Path, head: MarginHead, rows: Mapping[str, paddle.Tensor]) -> dict[str, Any]:
    """Write this process's file; return the manifest's entries of all."""
    shard, K = head.shard, head.num_sub_centers
    suffix = shard_suffix(shard.rank, shard.world_size)
    numbers = [0] * 5
    if shard.world_size > 1 or distributed.rank() == 0:
        arrays = {name: tensor.numpy() for name, tensor in rows.items()}
        entry = _write_new(prefix, suffix, lambda path: _dump(arrays, path))
        words = bytes.fromhex(entry["sha256"])
        numbers = [entry["size"], *(int.from_bytes(words[i : i + 8], "big", signed=True) for i in range(0, 32, 8))]
    entries, first = {}, 0
    for rank, (size, *parts) in enumerate(distributed.gather_integers(numbers)[: shard.world_size]):
        last = first + shard.counts[rank] * K
        digest = b"".join(part.to_bytes(8, "big", signed=True) for part in parts).hex()
        entries[shard_suffix(rank, shard.world_size)] = {
            "size": size, "sha256": digest, "rows": [first, last], "columns": head.embedding_size,
        }  # fmt: skip
        first = last
    return entries


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
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    for suffix, expected in manifest.items():
        path = _file(prefix, suffix)
        if not path.is_file():
            raise ValueError(f"Checkpoint {prefix} is incomplete: {path} is missing. Resume from another checkpoint.")
        if path.stat().st_size != expected["size"] or _sha256(path) != expected["sha256"]:
            raise ValueError(
                f"Checkpoint {prefix} is damaged: {path} is not the file that was saved ({path.stat().st_size} bytes "
                f"for {expected['size']}, or another content). Resume from another checkpoint."
            )
    optimizers, states = safe_pickle.load(_file(prefix, ".pdopt")), safe_pickle.load(_file(prefix, ".pdstates"))
    for name, array in ShardReader(shard_files(prefix, manifest)).arrays().items():
        if name == "ema":
            states["ema"][HEAD_WEIGHT] = array
        elif name.startswith("optimizer."):
            optimizers.setdefault(HEAD_WEIGHT, {})[name[len("optimizer.") :]] = array
    return optimizers, states


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
    for path in _files_of(prefix):
        suffix = path.name[len(prefix.name) :]
        if suffix.endswith(f"{SUFFIX}.new") or suffix in [f"{known}.new" for known in SUFFIXES]:
            final = suffix[: -len(".new")]
            if final in manifest and _sha256(path) == manifest[final]["sha256"]:
                os.replace(path, _file(prefix, final))
            else:
                path.unlink()
    for path in _files_of(prefix):  # of an older checkpoint of another number of processes
        if path.name.endswith(SUFFIX) and path.name[len(prefix.name) :] not in manifest:
            path.unlink()
    _new(prefix, ".manifest.json").unlink(missing_ok=True)
    if prefix.parent.is_dir():
        _sync(prefix.parent)


def _files_of(prefix: Path) -> list[Path]:
    if not prefix.parent.is_dir():
        return []
    return sorted(path for path in prefix.parent.iterdir() if path.name.startswith(f"{prefix.name}."))


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
