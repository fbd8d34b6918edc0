"""What a file is, in 64 letters."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Union


def sha256(path: Union[str, Path]) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
