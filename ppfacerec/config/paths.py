"""Paths of a config that must exist: files, folders, verification sets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from ppfacerec.registry import Spec, near_match


def _under(path: str, folder: Optional[str]) -> bool:
    return folder is not None and Path(folder).resolve() in (Path(path).resolve(), *Path(path).resolve().parents)


def missing(path: str, where: str, kind: str, made_later: Optional[str]) -> Iterator[str]:
    """Name a file or folder that does not exist and is not below `made_later`."""
    exists = Path(path).is_dir() if kind == "folder" else Path(path).is_file()
    if not exists and not _under(path, made_later):
        yield f"{where}: the {kind} {path} does not exist (relative paths start at {Path.cwd()})."


def missing_sets(dataset: Spec, val_targets: Any, made_later: Optional[str]) -> Iterator[str]:
    """Name the folders, lists and .bin files of an evaluation data set that do not exist.

    Args:
        val_targets: names of .bin files or "all", as given or by default; None where the data set has no such argument.
        made_later: the folder of the demo data, which is made when the run starts.
    """
    for key, kind in _PATHS:
        if key in dataset.kwargs:
            yield from missing(dataset.kwargs[key], f"{dataset.path}.{key}", kind, made_later)
    folder = dataset.kwargs.get("val_data_path")
    if folder is not None and val_targets is not None and Path(folder).is_dir() and not _under(folder, made_later):
        yield from _missing_bins(folder, val_targets, f"{dataset.path}.val_targets")


_PATHS = (
    ("val_data_path", "folder"),
    ("dataset_root", "folder"),
    ("pair_label_path", "file"),
    ("image_root", "folder"),
    ("pairs_path", "file"),
)


def _missing_bins(folder: str, val_targets: Any, where: str) -> Iterator[str]:
    from ppfacerec.data.eval_datasets import bins_in

    there = bins_in(folder)
    if not (val_targets and there):
        what = f"{folder} has no .bin file" if val_targets else "no set is named; name some, or 'all'"
        yield f"{where}: {what}."
        return
    for name in () if val_targets == "all" else val_targets:
        if name not in there:
            yield (
                f"{where}: {Path(folder) / name}.bin does not exist{near_match(name, there)}"
                f" In that folder: {', '.join(there)}."
            )


def is_one_of_many() -> bool:
    """Whether weights that are not here may be on the disk of another process: then the ranks find out together."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1
