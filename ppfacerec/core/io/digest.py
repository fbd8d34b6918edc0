"""What a file is, in 64 letters."""

import hashlib
from pathlib import Path

from ppfacerec.core.io.user_files import open_regular


def sha256(path: str | Path) -> str:
    """SHA-256 of a regular file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
