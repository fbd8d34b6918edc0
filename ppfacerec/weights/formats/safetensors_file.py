"""safetensors files, through the raw interface of the package, as its NumPy interface refuses bfloat16."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from ppfacerec.core.io.atomic_file import atomic_write
from ppfacerec.core.io.user_files import open_regular
from ppfacerec.weights.formats.torch_tensors import from_bfloat16

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?",
}  # fmt: skip


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Return the tensors, bfloat16 as float32; raise a ValueError for an inexact header or other dtypes."""
    with open_regular(str(path)) as file:
        data = file.read()
    try:
        entries = deserialize(data)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged or not a safetensors file: {error}. Copy, download or write it again."
        ) from error
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{path}: tensor '{name}' has dtype {entry['dtype']}; supported: {', '.join(_DTYPES)}.")
    arrays = {name: np.frombuffer(one["data"], _DTYPES[one["dtype"]]).reshape(one["shape"]) for name, one in entries}
    return {name: from_bfloat16(a) if a.dtype == np.uint16 else a for name, a in arrays.items()}


def write_safetensors(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays atomically."""
    with atomic_write(Path(path)) as file:
        file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
