"""A large head in files of its own, one a process: each writes and reads its part only.

A file has the rows of some classes: of the weight, of its average and of the optimizer's moments. The manifest of the
checkpoint says which rows are where, so that any number of processes finds its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppfacerec import safe_pickle

SUFFIX = ".pdhead"


class ShardFile(NamedTuple):
    """Rows `first` to `last` - 1 of the head, of `columns` numbers each."""

    path: Path
    first: int
    last: int
    columns: int


def shard_suffix(rank: int, world_size: int) -> str:
    return f".head_{rank}_of_{world_size}{SUFFIX}"


def shard_files(prefix: Path, manifest: Mapping[str, Mapping[str, Any]]) -> list[ShardFile]:
    """The files of a checkpoint's head in the order of their rows; none where the head is in the other files."""
    found = [
        ShardFile(prefix.with_name(prefix.name + suffix), entry["rows"][0], entry["rows"][1], entry["columns"])
        for suffix, entry in manifest.items()
        if suffix.endswith(SUFFIX)
    ]
    return sorted(found, key=lambda shard: shard.first)


class ShardReader:
    """The files of one head; the file read last is kept, as several arrays are asked for in turn."""

    def __init__(self, shards: Sequence[ShardFile]) -> None:
        self.shards = shards
        self._last: tuple[Path, dict[str, np.ndarray]] = (Path(), {})

    def read(self, shard: ShardFile) -> dict[str, np.ndarray]:
        """The arrays of one file by name."""
        if self._last[0] != shard.path:
            self._last = shard.path, safe_pickle.load(shard.path)
        return self._last[1]

    def arrays(self) -> dict[str, ShardedArray]:
        """All that the files have, by name."""
        return {key: ShardedArray(self, key) for key in self.read(self.shards[0])} if self.shards else {}


class ShardedArray:
    """Stands for an array (D, rows) of a checkpoint, which is read as far as it is needed.

    Args:
        reader: of the files.
        key: which of their arrays.
    """

    def __init__(self, reader: ShardReader, key: str) -> None:
        self._reader, self._key = reader, key
        self.shape = (reader.shards[0].columns, reader.shards[-1].last)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows `first` to `last` - 1 (last - first, D)."""
        parts = [
            self._reader.read(shard)[self._key][max(first - shard.first, 0) : last - shard.first]
            for shard in self._reader.shards
            if shard.first < last and first < shard.last
        ]
        return np.concatenate(parts)
