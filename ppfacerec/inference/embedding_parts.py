"""Embed many images: split over the ranks, in parts that a restart reuses."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from ppfacerec.core import distributed
from ppfacerec.core.io.atomic_file import atomic_write
from ppfacerec.core.io.npz_file import read_npz
from ppfacerec.core.log import logger, progress_bar
from ppfacerec.inference.face_model import FaceModel
from ppfacerec.inference.image_facts import FaceCheck
from ppfacerec.inference.people_index import probe_of

_LEAST_BATCHES = 8  # per part
_MOST_PARTS = 4096
_KEYS = ("key", "embeddings", "used", "problems")


class Embedded(NamedTuple):
    """The files that were embedded, their embeddings (N, D), and a line about each other file."""

    files: list[Path]
    embeddings: np.ndarray
    problems: list[str]


def embed_in_parts(model: FaceModel, paths: Sequence[Path], batch_size: int, folder: Path) -> Optional[Embedded]:
    """Embed files, split into parts over the ranks. All ranks call it; rank 0 gets the result, the others None.

    The parts do not depend on the world size, so that the result is the same to the last bit. If the disk is not
    shared, they are sent through the process group. They stay in `folder` until `remove_parts`.
    """
    size = batch_size * max(_LEAST_BATCHES, -(-len(paths) // (batch_size * _MOST_PARTS)))
    starts = range(0, len(paths), size)
    folder.mkdir(parents=True, exist_ok=True)
    disks = distributed.find_disks(folder)
    keys = [_key(model, paths[start : start + size], batch_size) for start in starts]
    there = " ".join(str(number) for number, key in enumerate(keys) if _read(folder, number, key))
    of_ranks = distributed.meeting().gather(there) if distributed.world_size() > 1 else [there]
    owner = {int(number): rank for rank in reversed(range(len(of_ranks))) for number in of_ranks[rank].split()}
    missing = [number for number in range(len(starts)) if number not in owner]
    owner |= {number: place % distributed.world_size() for place, number in enumerate(missing)}
    own = missing[distributed.rank() :: distributed.world_size()]
    if len(missing) < len(starts):
        logger.info("%d of %d parts are complete from an earlier run.", len(starts) - len(missing), len(starts))
    check = FaceCheck()
    with distributed.failing_together():
        for number in progress_bar(own, len(own), "embedding", f"part of {size} images"):
            part = paths[starts[number] : starts[number] + size]
            good, embeddings, problems = model.embed_files(part, batch_size, check)
            chosen = set(good)
            used = np.array([path in chosen for path in part])
            with atomic_write(_path(folder, number), private=True) as file:
                lines = np.array(problems, dtype=str)
                np.savez(file, key=np.array(keys[number]), embeddings=embeddings, used=used, problems=lines)
    check.warn()
    parts = [_on_rank_0(folder, number, key, owner[number], disks) for number, key in enumerate(keys)]
    if distributed.rank() != 0:
        return None
    used = np.concatenate([part["used"] for part in parts])
    return Embedded(
        [path for path, is_used in zip(paths, used) if is_used],
        np.concatenate([part["embeddings"] for part in parts]),
        [str(line) for part in parts for line in part["problems"]],
    )


def remove_parts(folder: Path) -> None:
    """Remove the parts on every disk, once their result is written. All ranks call it."""
    distributed.barrier()
    shutil.rmtree(folder, ignore_errors=True)


def _key(model: FaceModel, paths: Sequence[Path], batch_size: int) -> str:
    """Return a digest of the model, the files and the batch size."""
    digest = hashlib.sha256(np.round(probe_of(model), 3).tobytes() + str(batch_size).encode())
    for path in paths:
        stat = path.stat() if path.exists() else None
        digest.update(f"{path}\0{stat.st_size if stat else ''}\0{stat.st_mtime_ns if stat else ''}\n".encode())
    return digest.hexdigest()


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npz"


def _read(folder: Path, number: int, key: str) -> Optional[dict[str, np.ndarray]]:
    """Return the part if it was made with this `key`, or None."""
    path = _path(folder, number)
    if not path.is_file():
        return None
    part, _ = read_npz(path, _KEYS)
    return part if str(part["key"]) == key else None


def _on_rank_0(folder: Path, number: int, key: str, owner: int, disks: distributed.Disks) -> dict[str, Any]:
    part: Optional[dict[str, Any]] = _read(folder, number, key) if distributed.rank() in (0, owner) else None
    if disks.is_shared or owner == 0:
        return part or {}
    sent = part and {**part, "key": "", "problems": part["problems"].tolist()}
    return distributed.share_tree(sent, owner)
