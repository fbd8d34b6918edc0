"""The manifest of a checkpoint: which files belong together, their sizes and checksums, and when they were saved."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = ".manifest.json"
_SUFFIX = re.compile(r"(\.\w{1,60}){1,2}")  # longer ones are not valid file names
_LARGEST = 1 << 21  # bytes; with a thousand ranks it has 0.2 MB


@dataclass(frozen=True)
class Manifest:
    """The contents of a checkpoint."""

    files: Mapping[str, Mapping[str, Any]]  # by suffix: size, SHA-256, and the rows of the head in it
    saved_at: float = 0.0  # seconds since 1970
    run: str = ""  # identifier of the training, which a resumed run keeps
    progress: Mapping[str, Any] = field(default_factory=dict)

    def to_text(self) -> str:
        content = {"saved_at": self.saved_at, "run": self.run, "progress": self.progress, "files": self.files}
        return json.dumps({**content, "checksum": _checksum(content)}, indent=2) + "\n"

    @classmethod
    def read(cls, prefix: Path) -> Manifest:
        """Read ``prefix.manifest.json``; raise a FileNotFoundError, or a ValueError if it is damaged."""
        path = prefix.with_name(prefix.name + MANIFEST)
        try:
            with open(path, "rb") as file:
                content = json.loads(file.read(_LARGEST).decode("utf-8"))
            checksum = content.pop("checksum")
            manifest = cls(**{**content, "files": _checked(content["files"])})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"Checkpoint {prefix} is damaged: {path} is not a manifest ({error}).") from error
        if not manifest._is_comparable():
            raise ValueError(f"Checkpoint {prefix} is damaged: {path} lacks the time of saving.")
        if checksum != _checksum(content):
            raise ValueError(f"Checkpoint {prefix} is damaged: {path} is not the file that was saved.")
        return manifest

    def _is_comparable(self) -> bool:
        """Whether the fields used in comparisons have valid types, which the checksum does not prove."""
        return (
            isinstance(self.progress, Mapping) and type(self.saved_at) in (int, float) and isinstance(self.run, str)
            and all(type(number) is int for number in self.place())
        )  # fmt: skip

    def place(self) -> tuple[int, int, int]:
        """Position in its training, larger for later; clocks are not used, as they may be set back."""
        epoch, iteration, step = (self.progress.get(key, 0) for key in ("epoch", "iteration", "global_step"))
        return step, epoch, iteration

    def digest(self) -> str:
        """Digest of the files."""
        return _checksum({suffix: entry["sha256"] for suffix, entry in self.files.items()})


def _checked(files: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check that the entries are such as we write, and that no suffix leads to another folder."""
    for suffix, entry in files.items():
        if not _SUFFIX.fullmatch(suffix) or type(entry["size"]) is not int or not isinstance(entry["sha256"], str):
            raise ValueError(f"{suffix[:40]!r} is not a file of a checkpoint")
    return files


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
