"""Identity of the classes of a training set, in a form that a checkpoint can store and a later run can compare.

A class is identified by its name if there are names (folders), by the sizes of its records in a .rec file, else by the
set of its images' paths. 64-bit hashes detect mistakes, not forgeries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK = 1 << 19  # texts hashed at once: 4 MiB per array
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class ClassIdentity:
    """Digests of the classes and of the samples."""

    classes: np.ndarray  # (C,) uint64, a digest of each class, in the order of the labels
    samples: str  # SHA-256 of the samples and their labels in the order of the data set, which the sampler depends on

    @property
    def digest(self) -> str:
        """SHA-256 of the class digests, in the order of the labels."""
        return hashlib.sha256(self.classes.astype("<u8").tobytes()).hexdigest()

    def difference(self, now: ClassIdentity, name: Callable[[int], str] = lambda label: f"class {label}") -> str:
        """Describe which classes of `now`, named by `name`, are other people than in this earlier set; "" if none."""
        lines = []
        if len(now.classes) != len(self.classes):
            lines.append(f"there were {len(self.classes)} classes and now there are {len(now.classes)}")
        common = min(len(self.classes), len(now.classes))
        other = np.flatnonzero(self.classes[:common] != now.classes[:common])
        if len(other):
            order = np.argsort(self.classes, kind="stable")
            at = np.searchsorted(self.classes, now.classes[other], sorter=order)
            was = order[np.minimum(at, len(order) - 1)]
            is_known = self.classes[was] == now.classes[other]
            shown = [
                f"{name(int(k))} was class {old}" if known else f"{name(int(k))} is new or has other images"
                for k, old, known in zip(other[:_SHOWN], was, is_known)
            ]
            lines.append(
                f"{len(other)} of {common} classes are other identities ({int(is_known.sum())} of them had another "
                "number): " + ", ".join(shown) + (", ..." if len(other) > _SHOWN else "")
            )
        return "; ".join(lines)


def identity_by_samples(hashes: np.ndarray, labels: np.ndarray, num_classes: int) -> ClassIdentity:
    """Identify classes by their samples, in any order: `hashes` and `labels` are (N,)."""
    classes = np.zeros(num_classes, np.uint64)
    np.add.at(classes, labels, hashes)
    return ClassIdentity(_mixed(classes), samples_digest(hashes, labels))


def samples_digest(hashes: np.ndarray, labels: np.ndarray) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(hashes, "<u8").data)
    digest.update(np.ascontiguousarray(labels, "<i4").data)
    return digest.hexdigest()


def hash_strings(strings: Sequence[str]) -> np.ndarray:
    """Hash names to (N,) uint64."""
    encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
    lengths = np.array([len(text) for text in encoded])
    return hash_texts(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(lengths) - lengths, lengths)


def hash_texts(text: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Hash slices of a buffer (B,) uint8, eight bytes of all slices at a time: (N,) uint64."""
    hashes = np.empty(len(starts), np.uint64)
    padded = text if len(text) >= 8 else np.concatenate([text, np.zeros(8, np.uint8)])
    words = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))  # the eight bytes that start at each byte
    for begin in range(0, len(starts), _CHUNK):
        start, length = (array[begin : begin + _CHUNK].astype(np.int64) for array in (starts, lengths))
        found = _mixed(length.astype(np.uint64))
        for offset in range(0, int(length.max()), 8):
            at = np.minimum(start + offset, len(words) - 1)
            word = words[at] >> (8 * (start + offset - at)).clip(0, 63).astype(np.uint64)
            missing = (8 * (8 - (length - offset))).clip(0, 64).astype(np.uint64)
            word = np.where(missing < 64, (word << missing.clip(0, 63)) >> missing.clip(0, 63), np.uint64(0))
            found = np.where(length > offset, _mixed(found ^ word), found)
        hashes[begin : begin + _CHUNK] = found
    return hashes


def hash_numbers(*columns: np.ndarray) -> np.ndarray:
    """Hash rows of integers: columns (N,) to (N,) uint64."""
    found = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        found = _mixed(found ^ column.astype(np.uint64))
    return found


def _mixed(values: np.ndarray) -> np.ndarray:
    """Mix all bits (the finalizer of MurmurHash3), after an offset away from 0."""
    values = (values + np.uint64(1)) * _PRIME
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> np.uint64(33)
    return values
