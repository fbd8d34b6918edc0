"""Paths of a config that must exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional


def is_made_later(path: str, folder: Optional[str]) -> bool:
    """Whether a path is in the folder of the demo data, which is made when the run starts."""
    return folder is not None and Path(folder).resolve() in (Path(path).resolve(), *Path(path).resolve().parents)


def missing(path: str, where: str, kind: str, made_later: Optional[str]) -> Iterator[str]:
    """Name a file or folder that does not exist and is not below `made_later`."""
    exists = Path(path).is_dir() if kind == "folder" else Path(path).is_file()
    if not exists and not is_made_later(path, made_later):
        yield f"{where}: the {kind} {path} does not exist (relative paths start at {Path.cwd()})."


def is_one_of_many() -> bool:
    """Whether weights that are not here may be on the disk of another process: then the ranks find out together."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1
