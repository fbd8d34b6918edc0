"""A large head in files of its own, one per rank: each rank writes and reads only its part.

A file contains the rows of some classes: of the weight, of its average and of the optimizer's moments. The checkpoint's
manifest records which rows are in which file, so that training can resume with any world size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppfacerec.core.io import safe_pickle

SUFFIX = ".pdhead"


class ShardFile(NamedTuple):
    """Rows `first` to `last` - 1 of the head, with `columns` numbers each."""

    path: Path
    first: int
    last: int
    columns: int


def shard_files(prefix: Path, manifest: Mapping[str, Mapping[str, Any]]) -> list[ShardFile]:
    """Return a head's files, if any, in row order; raise a ValueError if their rows are unknown or have gaps."""
    found = [_shard_file(prefix, suffix, entry) for suffix, entry in manifest.items() if suffix.endswith(SUFFIX)]
    shards = sorted(found, key=lambda shard: shard.first)
    last = 0
    for shard in shards:
        if shard.first != last or shard.columns != shards[0].columns:
            raise ValueError(
                f"{shard.path}: the manifest gives it the rows from {shard.first} with {shard.columns} columns, "
                f"expected rows from {last} with {shards[0].columns}. The manifest is damaged."
            )
        last = shard.last
    return shards


def _shard_file(prefix: Path, suffix: str, entry: Mapping[str, Any]) -> ShardFile:
    rows: Any = entry.get("rows")
    columns: Any = entry.get("columns")
    are_rows = isinstance(rows, list) and len(rows) == 2 and all(type(row) is int for row in rows)
    if not are_rows or not 0 <= rows[0] <= rows[1] < 1 << 48 or type(columns) is not int or not 0 < columns < 1 << 24:
        raise ValueError(f"The manifest of {prefix} does not list the rows of the head in {suffix}; it is damaged.")
    return ShardFile(prefix.with_name(prefix.name + suffix), rows[0], rows[1], columns)


class ShardReader:
    """Read the files of one head; the last one is cached, because several arrays are read in turn."""

    def __init__(self, shards: Sequence[ShardFile]) -> None:
        self.shards = shards
        self._last: tuple[Path, dict[str, np.ndarray]] = (Path(), {})

    def read(self, shard: ShardFile) -> dict[str, np.ndarray]:
        """Return the arrays of one file by name; raise a ValueError if they do not match the manifest."""
        if self._last[0] != shard.path:
            arrays, shape = safe_pickle.load(shard.path), (shard.last - shard.first, shard.columns)
            are_right = isinstance(arrays, dict) and all(getattr(a, "shape", None) == shape for a in arrays.values())
            if not are_right or "weight" not in arrays:
                raise ValueError(f"{shard.path}: expected arrays {list(shape)} of the head, 'weight' among them.")
            self._last = shard.path, arrays
        return self._last[1]

    def arrays(self) -> dict[str, ShardedArray]:
        """Return all arrays in the files by name."""
        return {key: ShardedArray(self, key) for key in self.read(self.shards[0])} if self.shards else {}


class ShardedArray:
    """The array `key` (D, rows) of a checkpoint's files, read on demand."""

    def __init__(self, reader: ShardReader, key: str) -> None:
        self._reader, self._key = reader, key
        self.shape = (reader.shards[0].columns, reader.shards[-1].last)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Return rows `first` to `last` - 1 as (last - first, D)."""
        parts = [
            self._part(shard)[max(first - shard.first, 0) : last - shard.first]
            for shard in self._reader.shards
            if shard.first < last and first < shard.last
        ]
        return np.concatenate(parts)

    def _part(self, shard: ShardFile) -> np.ndarray:
        arrays = self._reader.read(shard)
        if self._key not in arrays:
            raise ValueError(f"{shard.path} has no '{self._key}', which the others have.")
        return arrays[self._key]


def whole_arrays(tree: Any) -> Any:
    """Return a tree with every ``ShardedArray`` read whole, (D, rows)."""
    if isinstance(tree, Mapping):
        return {key: whole_arrays(value) for key, value in tree.items()}
    return tree.rows(0, tree.shape[1]).T if isinstance(tree, ShardedArray) else tree
