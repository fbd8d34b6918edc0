"""Writes what torch.save writes, without torch: plain pickles of stand-ins whose names are PyTorch's."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "uint16": "BFloat16Storage",
}


class Named:
    """Pickles as the name of something to import."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Instance:
    """Pickles as an object of a class, with its attributes, as TorchScript and Lightning write them."""

    def __init__(self, of: Named, state: Any) -> None:
        self.of, self.state = of, state


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Named, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class Stored:
    """Pickles as a storage's persistent id."""

    def __init__(self, key: str, array: np.ndarray) -> None:
        self.key, self.array = key, array


class Writer(pickle._Pickler):
    """The pure-Python pickler, which can be told what to write for a stand-in."""

    def __init__(self, file: Any, legacy: bool) -> None:
        super().__init__(file, protocol=2)
        self.legacy = legacy

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Stored):
            return None
        kind = Named("torch", CLASSES[obj.array.dtype.name])
        parts = ("storage", kind, obj.key, "cpu", obj.array.size)
        return (*parts, None) if self.legacy else parts

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Named):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, Instance):
            self.save(obj.of)
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self.save(obj.state)
            self.write(pickle.BUILD)
        else:
            super().save(obj, save_persistent_id)


REBUILD = Named("torch._utils", "_rebuild_tensor_v2")


class TorchWriter:
    """Collects storages and writes them in one of the two formats."""

    def __init__(self) -> None:
        self.storages: dict[str, np.ndarray] = {}

    def store(self, array: np.ndarray) -> Stored:
        key = str(len(self.storages))
        self.storages[key] = np.ascontiguousarray(array)
        return Stored(key, self.storages[key])

    def tensor(self, array: np.ndarray, bfloat16: bool = False) -> Call:
        """An array as a tensor of its own; float32 is cut to bfloat16 where asked."""
        array = np.asarray(array)
        data = (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16) if bfloat16 else array
        strides = [s // array.itemsize for s in np.ascontiguousarray(array).strides] if array.ndim else []
        return self.view(self.store(data.reshape(-1)), 0, array.shape, strides)

    def view(self, storage: Stored, offset: int, shape: Any, strides: Any) -> Call:
        return Call(REBUILD, storage, offset, tuple(shape), tuple(strides), False, OrderedDict())

    def write(self, path: Path, tree: Any, compression: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", self._pickle(tree, legacy=False))
            archive.writestr("archive/byteorder", "little")
            for key, array in self.storages.items():
                archive.writestr(f"archive/data/{key}", array.tobytes())
        return path

    def write_legacy(self, path: Path, tree: Any) -> Path:
        with open(path, "wb") as file:
            for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
                pickle.dump(part, file, protocol=2)
            file.write(self._pickle(tree, legacy=True))
            pickle.dump(sorted(self.storages), file, protocol=2)
            for key in sorted(self.storages):
                file.write(struct.pack("<q", self.storages[key].size) + self.storages[key].tobytes())
        return path

    def _pickle(self, tree: Any, legacy: bool) -> bytes:
        buffer = io.BytesIO()
        Writer(buffer, legacy).dump(tree)
        return buffer.getvalue()


def save_torch(path: Path, state: Mapping[str, np.ndarray], wrap: Any = None) -> Path:
    """torch.save(state_dict, path); `wrap` makes the whole tree of the state dict."""
    writer = TorchWriter()
    tree: Any = OrderedDict((name, writer.tensor(array)) for name, array in state.items())
    return writer.write(path, wrap(tree) if wrap else tree)
