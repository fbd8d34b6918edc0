"""Read arrays of an untrusted .npz file: sizes are checked before memory is allocated, and no pickle is read.

``numpy.load`` allocates whatever a header of a hundred bytes claims, expands a megabyte to a gigabyte, and raises six
kinds of errors.
"""

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ppfacerec.core.io.user_files import open_regular

_KINDS = "biufcUS"  # numbers, booleans, texts
_FREE = 64 << 20  # a file may expand to this many bytes plus _FACTOR times its own size
_FACTOR = 20
_LAST_CODE = 0x10FFFF  # last Unicode code point
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # NumPy's; LZMA may need a dictionary of gigabytes
# What NumPy and zipfile raise for damaged files; SyntaxError and TokenError are the header's, a Python literal.
_DAMAGED = (
    ValueError, TypeError, KeyError, EOFError, OSError, RuntimeError, NotImplementedError, MemoryError, SyntaxError,
    RecursionError, OverflowError, AttributeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_npz(path: str | Path, keys: Collection[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays among `keys` that exist, and the names of all arrays.

    Raises:
        OSError: the file is missing or not readable.
        ValueError: no .npz, damaged, expands to too much, or an array holds something else than numbers, booleans or
            strings; the message is part of a sentence, without the file's name.
    """
    with open_regular(path) as file:
        if file.read(6) == b"\x93NUMPY":
            raise ValueError("one array, as np.save writes it")
        try:
            with zipfile.ZipFile(file) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
                members = {name: archive.getinfo(f"{name}.npy") for name in keys if name in names}
                _check_sizes(members, os.fstat(file.fileno()).st_size)
                return {name: _array(archive, info) for name, info in members.items()}, names
        except _DAMAGED as error:
            raise ValueError(str(error) or type(error).__name__) from error


def _check_sizes(members: dict[str, zipfile.ZipInfo], size: int) -> None:
    total = sum(info.file_size for info in members.values())
    if total > _FREE + _FACTOR * size:
        raise ValueError(f"it would expand to {total:,} bytes, far more than its {size:,}")
    for name, info in members.items():
        if info.compress_type not in _METHODS:
            raise ValueError(f"'{name}' is compressed with a method that NumPy does not use")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Read one member; its header must describe exactly the bytes that follow."""
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as opened:
        member = cast(BinaryIO, opened)
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"'{name}' has a header of version {version[0]}.{version[1]}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(member)
        if dtype.kind not in _KINDS or dtype.hasobject:
            raise ValueError(f"'{name}' is an array of {dtype}, not of numbers, booleans or strings")
        expected, there = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
        if expected != there:
            raise ValueError(f"'{name}' of shape {list(shape)}, {dtype}, has {there} bytes, not {expected}")
        data = member.read()
    if len(data) != expected:
        raise ValueError(f"'{name}' is truncated")
    if dtype.kind == "U" and (np.frombuffer(data, np.dtype("u4").newbyteorder(dtype.byteorder)) > _LAST_CODE).any():
        raise ValueError(f"'{name}' has characters outside Unicode")  # Python raises a SystemError for them
    flat = np.frombuffer(data, dtype) if expected else np.empty(math.prod(shape), dtype)
    return flat.reshape(shape, order="F" if is_fortran else "C")
