"""Disk space for a checkpoint: checked before writing, and a clear error if it runs out."""

import shutil
from pathlib import Path

from ppfacerec.core.io.atomic_file import DISK_FULL

_OVERHEAD = 1 << 16  # bytes around the arrays in the files, and the manifest


def check_room(prefix: Path, num_bytes: int) -> None:
    """Raise a ValueError, before anything is written, if the disk of `prefix` has less than `num_bytes` left."""
    free = shutil.disk_usage(prefix.parent).free
    if free < num_bytes + _OVERHEAD:
        raise ValueError(_no_room(prefix, num_bytes, f"{size_text(free)} are free"))


def write_error(prefix: Path, num_bytes: int, error: OSError) -> ValueError:
    """Return the error to raise for a failure to write `num_bytes`, whose files were removed."""
    if error.errno in DISK_FULL:
        free = size_text(shutil.disk_usage(prefix.parent).free)
        return ValueError(_no_room(prefix, num_bytes, f"no more is available ({error.strerror}; {free} are free)"))
    return ValueError(
        f"{prefix} cannot be saved ({error.strerror or error}). The checkpoints in {prefix.parent} are unchanged; "
        "check the disk, then resume with -o Global.checkpoints=auto."
    )


def size_text(num_bytes: float) -> str:
    """``"12.3 MiB"``"""
    return f"{num_bytes / 2**20:,.1f} MiB"


def _no_room(prefix: Path, num_bytes: int, found: str) -> str:
    return (
        f"{prefix} cannot be saved: it needs {size_text(num_bytes)}, but {found} in {prefix.parent}. The checkpoints "
        "there are unchanged. Free some space, or keep fewer of them (Global.keep_last), then resume with -o "
        "Global.checkpoints=auto."
    )
