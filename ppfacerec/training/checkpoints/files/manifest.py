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
_SUFFIX = re.compile(r"(\.\w{1,60}){1,2}")  # a longer one would be no name of a file
_LARGEST = 1 << 21  # bytes; one of a thousand processes has 0.2 MB


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of."""

    files: Mapping[str, Mapping[str, Any]]  # by suffix: size and SHA-256, and the rows of the head that it holds
    saved_at: float = 0.0  # seconds since 1970
    run: str = ""  # name of the training, which a resumed run inherits
    progress: Mapping[str, Any] = field(default_factory=dict)  # where training was

    def to_text(self) -> str:
        content = {"saved_at": self.saved_at, "run": self.run, "progress": self.progress, "files": self.files}
        return json.dumps({**content, "checksum": _checksum(content)}, indent=2) + "\n"

    @classmethod
    def read(cls, prefix: Path) -> Manifest:
        """Read ``prefix.manifest.json``.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
        """
        path = prefix.with_name(prefix.name + MANIFEST)
        try:
            with open(path, "rb") as file:
                content = json.loads(file.read(_LARGEST).decode("utf-8"))
            checksum = content.pop("checksum")
            manifest = cls(**{**content, "files": _checked(content["files"])})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"Checkpoint {prefix} is damaged: {path} is no manifest ({error}).") from error
        if not manifest._is_comparable():
            raise ValueError(f"Checkpoint {prefix} is damaged: {path} does not say when it was saved.")
        if checksum != _checksum(content):
            raise ValueError(f"Checkpoint {prefix} is damaged: {path} is not the file that was saved.")
        return manifest

    def _is_comparable(self) -> bool:
        """What others are compared by is of the right kinds; the checksum is no proof of that."""
        return (
            isinstance(self.progress, Mapping) and type(self.saved_at) in (int, float) and isinstance(self.run, str)
            and all(type(number) is int for number in self.place())
        )  # fmt: skip

    def place(self) -> tuple[int, int, int]:
        """How far its training was, larger for later; no clock is asked, since clocks are set back."""
        epoch, iteration, step = (self.progress.get(key, 0) for key in ("epoch", "iteration", "global_step"))
        return step, epoch, iteration

    def digest(self) -> str:
        """The same for the same files."""
        return _checksum({suffix: entry["sha256"] for suffix, entry in self.files.items()})


def _checked(files: Mapping[str, Any]) -> Mapping[str, Any]:
    """See that the entries are what we write, and that no suffix leads to another folder."""
    for suffix, entry in files.items():
        if not _SUFFIX.fullmatch(suffix) or type(entry["size"]) is not int or not isinstance(entry["sha256"], str):
            raise ValueError(f"{suffix[:40]!r} is no file of a checkpoint")
    return files


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
