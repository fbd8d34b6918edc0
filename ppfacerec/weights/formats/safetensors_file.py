"""safetensors files, by the package of this name; its NumPy interface would refuse bfloat16, its raw one does not."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from ppfacerec.core.io.user_files import open_regular
from ppfacerec.core.io.whole_file import written_whole

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?",
}  # fmt: skip


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Return the tensors, bfloat16 as float32.

    Raises:
        ValueError: the header is no header, does not describe the bytes behind it exactly, or has other dtypes.
    """
    with open_regular(str(path)) as file:
        data = file.read()
    try:
        entries = deserialize(data)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged or no safetensors file: {error}. Copy, download or write it again."
        ) from error
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{path}: tensor '{name}' has the dtype {entry['dtype']}; read are {', '.join(_DTYPES)}.")
    return {name: _array(entry["dtype"], entry["shape"], entry["data"]) for name, entry in entries}


def write_safetensors(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays; the file appears whole or not at all."""
    with written_whole(Path(path)) as file:
        file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def _array(dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    flat = np.frombuffer(data, _DTYPES[dtype])
    if dtype == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)
