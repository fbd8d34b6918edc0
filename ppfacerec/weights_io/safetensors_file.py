"""safetensors: eight bytes with the length of a JSON header, the header, the numbers. Read and written here.

The ``safetensors`` package comes with Paddle 3 but not with 2.6, and refuses bfloat16 for NumPy; the format is small.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ppfacerec.user_files import open_regular
from ppfacerec.whole_file import written_whole

_MAX_HEADER = 100_000_000  # the format's own limit
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "uint16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors, bfloat16 as float32, and the metadata.

    Raises:
        ValueError: the header is no header, or does not describe the bytes behind it exactly.
    """
    with open_regular(str(path)) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(size - 8, _MAX_HEADER):
            _fail(path, f"its header should have {length} bytes, the file has {size}")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as error:
            _fail(path, f"its header is no JSON ({error})")
        if not isinstance(header, dict):
            _fail(path, "its header is no JSON object")
        data = file.read()
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _fail(path, "its metadata are no texts")
    _check_layout(path, header, len(data))
    return {name: _tensor(data, entry) for name, entry in header.items()}, metadata


def write_safetensors(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays; the file appears whole or not at all."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        entries[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the numbers begin at a multiple of eight
    with written_whole(path) as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())


def _check_layout(path: str | Path, header: Mapping[str, Any], size: int) -> None:
    """Every tensor has the bytes of its shape, and together they cover the data without gap or overlap."""
    position = 0
    places = {name: _place(path, name, entry) for name, entry in header.items()}
    for name, (start, end, expected) in sorted(places.items(), key=lambda item: item[1]):
        if start != position or end - start != expected:
            entry = header[name]
            _fail(path, f"tensor '{name}' of shape {entry['shape']}, {entry['dtype']}, lies at {start} to {end}, "
                        f"expected {position} to {position + expected}")  # fmt: skip
        position = end
    if position != size:
        _fail(path, f"its tensors need {position} bytes, behind the header are {size}")


def _place(path: str | Path, name: str, entry: Any) -> tuple[int, int, int]:
    """Where a tensor begins and ends, and how many bytes its shape needs."""
    fields: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    offsets: Any = fields.get("data_offsets")
    shape: Any = fields.get("shape")
    dtype = fields.get("dtype")
    if not _are_sizes(offsets) or len(offsets) != 2 or not _are_sizes(shape) or not isinstance(dtype, str):
        _fail(path, f"the entry of '{name}' in its header is not {{dtype, shape, data_offsets}}")
    if dtype not in _DTYPES:
        _fail(path, f"tensor '{name}' has the dtype {dtype}; read are {', '.join(_DTYPES)}")
    return offsets[0], offsets[1], math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and len(values) <= 16 and all(type(n) is int and 0 <= n < 2**48 for n in values)


def _tensor(data: bytes, entry: Mapping[str, Any]) -> np.ndarray:
    start, end = entry["data_offsets"]
    dtype = np.dtype(_DTYPES[entry["dtype"]]).newbyteorder("<")
    flat = np.frombuffer(data, dtype, (end - start) // dtype.itemsize, start) if end > start else np.empty(0, dtype)
    if entry["dtype"] == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(entry["shape"])


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


def _fail(path: str | Path, what: str) -> NoReturn:
    raise ValueError(f"{path} is damaged or no safetensors file: {what}. Copy, download or write it again.")
