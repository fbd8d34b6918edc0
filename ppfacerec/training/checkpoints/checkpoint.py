"""Write a snapshot of a training as the files of a checkpoint, and read them back.

checkpoint_files.py makes them complete or absent; saver.py decides when which checkpoint is saved.
"""

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppfacerec.core import distributed
from ppfacerec.core.io import safe_pickle
from ppfacerec.recognizer import HEAD_WEIGHT
from ppfacerec.training.checkpoints.files.checkpoint_files import (
    INFO,
    NEW,
    commit,
    discard_new,
    file_of,
    plain_prefix,
    sha256,
    write_new,
    write_new_info,
    write_new_manifest,
)
from ppfacerec.training.checkpoints.files.disk_space import check_room, write_error
from ppfacerec.training.checkpoints.files.head_shards import ShardReader, shard_files
from ppfacerec.training.checkpoints.files.manifest import Manifest
from ppfacerec.training.checkpoints.snapshot import Snapshot


def write_snapshot(prefix: Path, snapshot: Snapshot) -> dict[str, Any]:
    """Write this rank's new files, which are not valid yet; return their entries in the manifest.

    Raises:
        ValueError: the disk is full or cannot be written to, or the weights are not finite; the new files are removed
            and the previous checkpoint is unchanged.
    """
    for content in snapshot.files.values():
        check_finite(prefix, content)
    check_room(prefix, snapshot.num_bytes())
    try:
        entries = {
            suffix: {**write_new(prefix, suffix, content), **snapshot.rows.get(suffix, {})}
            for suffix, content in snapshot.files.items()
        }
        if snapshot.info is not None and ".pdparams" in entries:
            info = dataclasses.replace(snapshot.info, weights_sha256=entries[".pdparams"]["sha256"])
            entries[INFO] = write_new_info(prefix, info)
    except OSError as error:
        discard_new(prefix, snapshot.files)
        raise write_error(prefix, snapshot.num_bytes(), error) from error
    return entries


def complete(prefix: Path, snapshot: Snapshot, entries: Mapping[str, Any]) -> None:
    """Turn the new files of all ranks into a checkpoint, on rank 0; a ValueError leaves the previous one unchanged."""
    manifest = Manifest(dict(entries), time.time(), snapshot.run, snapshot.progress)
    for suffix, entry in entries.items():  # every file in a valid manifest must exist
        new = file_of(prefix, suffix + NEW)
        if not new.is_file() or new.stat().st_size != entry["size"]:
            discard_new(prefix, entries)
            raise ValueError(f"{prefix} cannot be saved: {new}, written by another process, is not visible here.")
    try:
        write_new_manifest(prefix, manifest)
    except OSError as error:
        discard_new(prefix, entries)
        raise write_error(prefix, snapshot.num_bytes(), error) from error
    commit(prefix, manifest)


def gather_entries(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Gather the entries of all ranks' files on every rank."""
    parts = distributed.gather_texts(json.dumps(entries))
    return {suffix: entry for part in parts for suffix, entry in json.loads(part).items()}


def check_files(prefix: Path) -> None:
    """Compare a checkpoint's files with its manifest; raise a ValueError that names a missing or different file."""
    try:
        manifest = Manifest.read(prefix)
    except FileNotFoundError as error:
        raise ValueError(
            f"{error.filename} is missing, so {prefix} cannot be resumed from: it lists the files that belong "
            "together. To start from the weights alone, give them as Global.pretrained_model."
        ) from error
    for suffix, expected in manifest.files.items():
        if suffix == INFO:  # evaluations change it; it contains the checksum of its weights
            continue
        path = file_of(prefix, suffix)
        if not path.is_file():
            raise ValueError(f"Checkpoint {prefix} is incomplete: {path} is missing. {_ANOTHER}")
        if path.stat().st_size != expected["size"] or sha256(path) != expected["sha256"]:
            raise ValueError(
                f"Checkpoint {prefix} is damaged: {path} is not the file that was saved ({path.stat().st_size} bytes "
                f"for {expected['size']}, or different content). {_ANOTHER}"
            )


def check_finite(prefix: Path, weights: Mapping[str, Any]) -> None:
    """Raise a ValueError if weights are not finite, which can be neither trained nor evaluated."""
    arrays = {
        name: array for name, array in weights.items() if isinstance(array, np.ndarray) and array.dtype.kind == "f"
    }
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise ValueError(
            f"{prefix}: {len(bad)} of {len(weights)} weights are not finite ({', '.join(bad[:3])}): the training has "
            "diverged. Resume from an earlier checkpoint, with a lower learning rate or Optimizer.clip_norm."
        )


_ANOTHER = "Resume from another checkpoint; Global.checkpoints: auto takes the newest complete one of output_dir."


def load_states(prefix: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check a checkpoint's files with ``check_files``; return the contents of .pdopt and .pdstates."""
    prefix = plain_prefix(prefix)
    check_files(prefix)
    return read_states(prefix)


def read_states(prefix: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the contents of .pdopt and .pdstates of a checked checkpoint."""
    manifest = Manifest.read(prefix)
    optimizers, states = safe_pickle.load(file_of(prefix, ".pdopt")), safe_pickle.load(file_of(prefix, ".pdstates"))
    for name, array in ShardReader(shard_files(prefix, manifest.files)).arrays().items():
        if name == "ema":
            states["ema"][HEAD_WEIGHT] = array
        elif name.startswith("optimizer."):
            optimizers.setdefault(HEAD_WEIGHT, {})[name[len("optimizer.") :]] = array
    return optimizers, states
