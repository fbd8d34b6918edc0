"""The files of a checkpoint, complete or absent.

A checkpoint `latest` is latest.pdparams (weights), latest.pdopt (optimizer), latest.pdstates (progress, EMA, best
metric), latest.info.json (how to use the weights; evaluations change it later), and latest.manifest.json with the
sizes and SHA-256 of the others. A large head is in further files, one per rank (head_shards.py). Files are written
under temporary names (.new) first; renaming the manifest makes the new checkpoint valid. If a kill interrupts the
renames after it, whoever opens the checkpoint next completes them.
"""

import hashlib
import os
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from ppfacerec.core.io.user_files import sha256
from ppfacerec.training.checkpoints.files.head_shards import SUFFIX
from ppfacerec.training.checkpoints.files.manifest import MANIFEST, Manifest
from ppfacerec.weights.info import SUFFIX as INFO
from ppfacerec.weights.info import ModelInfo

SUFFIXES = (".pdparams", ".pdopt", ".pdstates", INFO)
NEW, REMOVED = ".new", ".removed.json"
NUMBERED = re.compile(r"(step|epoch)_\d+")
_OWN_NAME = re.compile(r"(latest|best_model|(step|epoch)_\d+)\.")
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # atomic_file.py


def plain_prefix(prefix: str | Path) -> Path:
    """Return output/X/latest for output/X/latest and output/X/latest.pdparams."""
    return Path(str(prefix).removesuffix(".pdparams"))


def file_of(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def write_new(prefix: Path, suffix: str, value: Any) -> dict[str, Any]:
    """Pickle a value into a file that is not valid yet; return its entry in the manifest."""
    with open(file_of(prefix, suffix + NEW), "wb") as file:
        hashing = _Hashing(file)
        pickle.dump(value, hashing, protocol=4)
        file.flush()
        os.fsync(file.fileno())
    return {"size": hashing.size, "sha256": hashing.digest.hexdigest()}


class _Hashing:
    """A writable file that records the size and SHA-256 of what is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.size, self.digest = file, 0, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.size += memoryview(data).nbytes
        return self._file.write(data)


def discard_new(prefix: Path, suffixes: Iterable[str]) -> None:
    """Remove the files that a failed save has written."""
    for suffix in (*suffixes, INFO, MANIFEST):
        file_of(prefix, suffix + NEW).unlink(missing_ok=True)


def write_new_info(prefix: Path, info: ModelInfo) -> dict[str, Any]:
    """Write the info of the weights; return its entry in the manifest."""
    path = file_of(prefix, INFO + NEW)
    path.write_bytes(info.to_json())
    _sync(path)
    return {"size": path.stat().st_size, "sha256": sha256(path)}


def write_new_manifest(prefix: Path, manifest: Manifest) -> None:
    path = file_of(prefix, MANIFEST + NEW)
    path.write_text(manifest.to_text(), encoding="utf-8")
    _sync(path)


def commit(prefix: Path, manifest: Manifest) -> None:
    """Make the new files, including the manifest, the valid checkpoint."""
    os.replace(file_of(prefix, MANIFEST + NEW), file_of(prefix, MANIFEST))  # makes the new checkpoint valid
    for suffix in manifest.files:
        os.replace(file_of(prefix, suffix + NEW), file_of(prefix, suffix))
    _remove_other_shards(prefix, manifest)
    _sync(prefix.parent)


def finish_interrupted_save(prefix: str | Path) -> None:
    """Complete a save killed after its manifest became valid, else remove its files; keep all if that is damaged."""
    prefix = plain_prefix(prefix)
    if not prefix.parent.is_dir():
        return
    try:
        manifest = Manifest.read(prefix)
    except FileNotFoundError:
        manifest = Manifest({})
    except ValueError:
        return
    for path in _files_of(prefix):
        suffix = path.name[len(prefix.name) :]
        if suffix.endswith(f"{SUFFIX}{NEW}") or suffix in [f"{known}{NEW}" for known in SUFFIXES]:
            entry = manifest.files.get(suffix[: -len(NEW)])
            if entry is not None and sha256(path) == entry["sha256"]:
                os.replace(path, path.with_name(path.name[: -len(NEW)]))
            else:
                path.unlink()
    if manifest.files:
        _remove_other_shards(prefix, manifest)
    file_of(prefix, MANIFEST + NEW).unlink(missing_ok=True)
    _sync(prefix.parent)


def remove_checkpoint(prefix: Path) -> None:
    """Remove a complete checkpoint; a kill leaves it whole, or recognisably half removed."""
    os.replace(file_of(prefix, MANIFEST), file_of(prefix, REMOVED))
    _finish_removal(prefix)


def clean_up(folder: Path) -> None:
    """Complete interrupted saves and removals in an output folder; no other process may be writing there."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = _OWN_NAME.match(path.name)
        if _TEMPORARY.fullmatch(path.name):
            path.unlink()
        elif name and path.name.endswith(NEW) and path.exists():
            finish_interrupted_save(folder / name.group()[:-1])
        elif name and path.name.endswith(REMOVED):
            _finish_removal(folder / name.group()[:-1])


def complete_names(folder: Path) -> dict[str, Manifest]:
    """Return the training checkpoints in a folder with their manifests, newest first; other files are not read.

    The newest is the one furthest in the training that wrote `latest`; those of other trainings follow.
    """
    found, _ = manifests(folder)
    if not found:
        return {}
    run = (found["latest"] if "latest" in found else max(found.values(), key=lambda manifest: manifest.saved_at)).run

    def key(item: tuple[str, Manifest]) -> tuple[bool, tuple[int, int, int], bool]:
        name, manifest = item
        return manifest.run == run, manifest.place(), name != "latest"

    return dict(sorted(found.items(), key=key, reverse=True))


def foreign_names(folder: Path) -> list[str]:
    """Return weights under a training's names but without a manifest, such as PaddleClas's."""
    names = [path.name[: -len(".pdparams")] for path in sorted(folder.glob("*.pdparams"))]
    own = [name for name in names if _OWN_NAME.fullmatch(f"{name}.")]
    return [name for name in own if not file_of(folder / name, MANIFEST).exists()]


def manifests(folder: Path) -> tuple[dict[str, Manifest], list[str]]:
    """Return the manifests by checkpoint name, and errors of damaged ones; not best_model, which may be averaged."""
    found, problems = {}, []
    for path in folder.glob(f"*{MANIFEST}"):
        name = path.name[: -len(MANIFEST)]
        if name == "latest" or NUMBERED.fullmatch(name):
            try:
                found[name] = Manifest.read(folder / name)
            except ValueError as error:
                problems.append(str(error))
    return found, problems


def _finish_removal(prefix: Path) -> None:
    for path in _files_of(prefix):
        if path.name != f"{prefix.name}{REMOVED}":
            path.unlink()
    file_of(prefix, REMOVED).unlink()


def _remove_other_shards(prefix: Path, manifest: Manifest) -> None:
    """Remove those of an older checkpoint with another world size."""
    for path in _files_of(prefix):
        if path.name.endswith(SUFFIX) and path.name[len(prefix.name) :] not in manifest.files:
            path.unlink()


def _files_of(prefix: Path) -> list[Path]:
    return sorted(path for path in prefix.parent.iterdir() if path.name.startswith(f"{prefix.name}."))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
