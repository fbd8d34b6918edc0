"""Tensors in PyTorch's files: a storage of numbers, and views of it by offset, shape and strides."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_DIMENSIONS = 16

# storage class -> dtype of its bytes; NumPy has no bfloat16, which is read as the upper half of a float32
STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Return the float32 numbers whose upper halves are `bits` (uint16)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def itemsize(dtype: str) -> int:
    """Bytes of one number."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


@dataclass(frozen=True)
class Storage:
    """Numbers in a file, not read yet; tied tensors share one.

    Attributes:
        dtype: a NumPy dtype's name, or "bfloat16".
        read: returns the bytes, little-endian.
    """

    dtype: str
    key: str
    numel: int
    read: Callable[[], Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class TensorView:
    """A tensor in a file, not read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers, as PyTorch counts them

    @property
    def nbytes(self) -> int:
        """Bytes of the array that `numpy` returns if it is a copy."""
        width = 4 if self.storage.dtype == "bfloat16" else itemsize(self.storage.dtype)
        return math.prod(self.shape) * width

    def numpy(self) -> np.ndarray:
        """Read the tensor; bfloat16 becomes float32."""
        dtype = "uint16" if self.storage.dtype == "bfloat16" else self.storage.dtype
        flat = np.frombuffer(self.storage.read(), np.dtype(dtype).newbyteorder("<"))
        strides = [stride * flat.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides, writeable=False)
        return from_bfloat16(view) if self.storage.dtype == "bfloat16" else view


def rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any) -> TensorView:
    """Return ``torch._utils._rebuild_tensor_v2``'s view; raise a ValueError if its storage is too small."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    if not _are_sizes(shape) or not _are_sizes(strides) or len(shape) != len(strides) or not _are_sizes((offset,)):
        raise ValueError(f"a tensor's offset, shape or strides are not sizes of at most {MAX_DIMENSIONS} dimensions")
    count = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if count and (last >= storage.numel or count > storage.numel):
        raise ValueError(
            f"a tensor of shape {list(shape)}, strides {list(strides)} and offset {offset} does not fit into its "
            f"storage of {storage.numel} numbers"
        )
    return TensorView(storage, offset if count else 0, tuple(shape), tuple(strides))


def _are_sizes(sizes: Any) -> bool:
    is_tuple = isinstance(sizes, tuple) and len(sizes) <= MAX_DIMENSIONS
    return is_tuple and all(type(size) is int and 0 <= size < 2**48 for size in sizes)
