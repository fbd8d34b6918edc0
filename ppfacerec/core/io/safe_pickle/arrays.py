"""Rebuild the NumPy arrays, dtypes and scalars of pickles from checked parts: all that a pickle may call.

NumPy's own ``_reconstruct``, ``dtype.__setstate__`` and ``ndarray.__setstate__`` trust the file: a few bytes make them
allocate terabytes or build an array of object pointers. None of them is called here.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c8|c16|\?)")
_MAX_DIMENSIONS = 32


class Call:
    """A function on the machine's stack that a pickle may call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class Parts(tuple[Any, ...]):
    """A tuple with internal objects such as a dtype: arguments, not a value."""


class Dtype:
    """A dtype whose byte order follows with BUILD."""

    def __init__(self, *arguments: Any) -> None:
        text = _text(arguments[0]) if arguments else None
        if text is None or not _DTYPE.fullmatch(text):
            raise ValueError(f"an array has the dtype {str(text)[:40]!r}; only numbers and booleans are read")
        self.value = np.dtype(text)

    def build(self, state: Any) -> Dtype:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise ValueError("an array has a dtype with fields or a subarray; only numbers and booleans are read")
        self.value = self.value.newbyteorder(">" if _text(state[1]) == ">" else "<")  # NumPy ignores it for one byte
        return self


class Array:
    """An array begun by ``_reconstruct``; BUILD supplies shape, dtype and bytes."""

    def __init__(self, *arguments: Any) -> None:
        if len(arguments) != 3 or arguments[0] is not NDARRAY:
            raise ValueError("_reconstruct is called with arguments other than (ndarray, shape, type)")
        self.memo_keys: list[int] = []  # where the machine must store the finished array

    def build(self, state: Any) -> np.ndarray:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], Dtype):
            raise ValueError("an array's state is not (version, shape, dtype, is_fortran, bytes)")
        return make_array(state[4], state[2], state[1], "F" if state[3] else "C")


def make_array(data: Any, dtype: Any, shape: Any, order: Any = "C", axis_order: Any = None) -> np.ndarray:
    """Return a read-only array over `data`, which is not copied; also replaces NumPy's ``_frombuffer``."""
    if isinstance(data, str):
        data = data.encode("latin1")  # Python 2's bytes, read with encoding="latin1"
    if not isinstance(dtype, Dtype) or not isinstance(data, (bytes, bytearray)):
        raise ValueError(f"an array's contents are a {type(data).__name__}; only numbers and booleans are read")
    shape = _checked_shape((shape,) if isinstance(shape, int) else shape)
    expected = math.prod(shape) * dtype.value.itemsize
    if len(data) != expected:
        raise ValueError(f"an array of shape {list(shape)}, {dtype.value}, has {len(data)} bytes, not {expected}")
    flat = np.frombuffer(data, dtype.value) if data else np.empty(0, dtype.value)
    if order == "K":
        array = flat.reshape(shape).transpose(_checked_axes(axis_order, len(shape)))
    else:
        array = flat.reshape(shape, order="F" if order == "F" else "C")
    array.flags.writeable = False
    return array


def make_scalar(dtype: Any, data: Any) -> Any:
    """Return the NumPy scalar that ``numpy.core.multiarray.scalar`` would."""
    return make_array(data, dtype, ())[()]


def encode_latin1(text: Any, encoding: Any = "latin1") -> bytes:
    """Return bytes that Python 3 wrote as text for protocol 2; no other codec is run (some are compressors)."""
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
        raise ValueError("_codecs.encode is called with a codec other than latin1")
    return text.encode("latin1")


def make_tuple(items: Any = ()) -> tuple[Any, ...]:
    """Return `items` as a tuple: paddle.save writes a Tensor outside of a state dict as tuple((name, array))."""
    if not isinstance(items, (list, tuple)):
        raise ValueError("tuple is called with an argument other than a list or a tuple")
    return items if isinstance(items, Parts) else tuple(items)


def make_ordered_dict(items: Any = ()) -> OrderedDict[Any, Any]:
    """Return an empty OrderedDict, which SETITEMS fills; Python 2 gave [[key, value], ...] here."""
    result: OrderedDict[Any, Any] = OrderedDict()
    for item in items:
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], (str, bytes)):
            raise ValueError("an OrderedDict is made from an argument other than [[key, value], ...]")
        result[item[0]] = item[1]
    return result


def make_empty_bytes() -> bytes:
    """Return b"", which protocol 2 writes as bytes()."""
    return b""


def make_bytearray(content: Any = b"", encoding: Any = "latin1") -> bytes:
    """Return the content of a bytearray, which protocols below 5 write as bytes or as latin1 text."""
    if isinstance(content, str):
        return encode_latin1(content, encoding)
    if not isinstance(content, bytes):
        raise ValueError("a bytearray is made from an argument other than bytes")
    return content


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("latin1")
    return value if isinstance(value, str) else None


def _checked_shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"an array's shape is not a tuple of at most {_MAX_DIMENSIONS} numbers")
    if any(type(size) is not int or not 0 <= size < 2**48 for size in shape):
        raise ValueError("an array's shape is not a tuple of sizes")
    return shape


def _checked_axes(axes: Any, num_axes: int) -> tuple[int, ...]:
    if not isinstance(axes, tuple) or sorted(axes) != list(range(num_axes)):
        raise ValueError("an array's axes are not in an order of 0, 1, ...")
    return axes


def _not_callable(*arguments: Any) -> Any:
    raise ValueError("numpy.ndarray is called directly")


NDARRAY = Call(_not_callable)
INTERNAL = (Call, Parts, Dtype, Array)

GLOBALS = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): Call(Dtype),
    ("_codecs", "encode"): Call(encode_latin1),
    ("collections", "OrderedDict"): Call(make_ordered_dict),
    ("builtins", "tuple"): Call(make_tuple),
    ("__builtin__", "tuple"): Call(make_tuple),
    ("__builtin__", "bytes"): Call(make_empty_bytes),
    ("builtins", "bytearray"): Call(make_bytearray),
    ("__builtin__", "bytearray"): Call(make_bytearray),
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and NumPy 2
    GLOBALS[f"{_core}.multiarray", "_reconstruct"] = Call(Array)
    GLOBALS[f"{_core}.multiarray", "scalar"] = Call(make_scalar)
    GLOBALS[f"{_core}.numeric", "_frombuffer"] = Call(make_array)
