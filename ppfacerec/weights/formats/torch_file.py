"""Read PyTorch's files (.pth, .pt, .ckpt) without PyTorch, and without executing what is in them.

Since PyTorch 1.6 a file is a zip archive with a pickle (data.pkl) and a member for each storage; the legacy format is
several pickles followed by the storages. TorchScript archives are such zips, too: their modules' tensors are read, not
their code.
"""

from __future__ import annotations

import functools
import io
import os
import struct
import zipfile
from typing import Any, BinaryIO, NoReturn

from ppfacerec.core.io.safe_pickle.reader import Source, run
from ppfacerec.core.io.user_files import open_regular
from ppfacerec.weights.formats.torch_machine import TorchMachine
from ppfacerec.weights.formats.torch_tensors import Storage, itemsize

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_SPACE_FACTOR = 4  # largest size of all tensors by the file's: tied ones and bfloat16 expand
# What zipfile raises for invalid archives; the last is for unsupported features.
_ZIP_ERRORS = (zipfile.BadZipFile, struct.error, EOFError, OSError, ValueError, NotImplementedError)
_ENCODING = "utf-8"  # of strings written by Python 2


class TorchFile:
    """An open PyTorch file; `tree` holds what was saved: plain data, Unread, TensorView (readable while it is open).

    Raises:
        UnsafePickleError: it refers to something that no checkpoint needs; nothing has been executed.
        ValueError: the file is damaged, or in neither format.
    """

    def __init__(self, path: str) -> None:
        self.path = str(path)
        self._file: BinaryIO = open_regular(path)
        self._size = os.fstat(self._file.fileno()).st_size
        self._left = self._size  # bytes of storages that may still be read
        try:
            self.tree = self._read_zip() if zipfile.is_zipfile(self._file) else self._read_legacy()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def max_bytes(self) -> int:
        """Largest allowed size of all its tensors."""
        return _SPACE_FACTOR * self._size

    def _fail(self, what: str) -> NoReturn:
        raise ValueError(f"{self.path} is damaged or not a PyTorch file: {what}. Copy, download or write it again.")

    def _take(self, count: int) -> None:
        """Account for `count` bytes: overlapping storages must not expand to more than the file holds."""
        self._left -= count
        if self._left < 0:
            self._fail("its storages overlap")

    # The zip format -------------------------------------------------------------------------------------------------

    def _read_zip(self) -> Any:
        self._file.seek(0)
        try:
            self._archive = zipfile.ZipFile(self._file)
        except _ZIP_ERRORS as error:
            self._fail(str(error))
        pickles = [name for name in self._archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            self._fail(f"a zip archive with {len(pickles)} files */data.pkl, expected one")
        self._root = pickles[0][: -len("data.pkl")]
        if f"{self._root}byteorder" in self._archive.namelist() and self._member("byteorder") != b"little":
            self._fail("it was written by a big-endian machine, which is not supported")
        data = self._member("data.pkl")
        machine = functools.partial(TorchMachine, functools.cache(self._zip_storage))
        return run(Source(io.BytesIO(data), len(data)), f"{self.path} (data.pkl)", _ENCODING, machine)

    def _zip_storage(self, dtype: str, key: str, numel: int) -> Storage:
        info = self._info(f"data/{key}")
        size = numel * itemsize(dtype)
        if info.file_size < size:
            raise ValueError(f"storage {key} has {info.file_size} bytes for {numel} numbers of {dtype}")

        @functools.cache
        def read() -> Any:
            return memoryview(self._member(f"data/{key}"))[:size]

        return Storage(dtype, key, numel, read)

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            info = self._archive.getinfo(self._root + name)
        except KeyError:
            self._fail(f"{self._root}{name} is missing in the archive")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            self._fail(f"{info.filename} is compressed or encrypted, which PyTorch never does")
        return info

    def _member(self, name: str) -> bytes:
        info = self._info(name)
        self._take(info.file_size)
        try:
            return self._archive.read(info)  # verifies its checksum
        except _ZIP_ERRORS as error:
            self._fail(f"{info.filename}: {error or 'it ends too early'}")

    # The legacy format ----------------------------------------------------------------------------------------------

    def _read_legacy(self) -> Any:
        self._file.seek(0)
        source = Source(self._file, self._size)
        if source.head.startswith(b"PK"):
            self._fail("a truncated zip archive, without its end")
        if not source.head.startswith(b"\x80"):
            self._fail(f"it begins with {source.head!r}; expected a zip archive or a pickle")
        magic = run(source, self.path, _ENCODING)
        if magic != LEGACY_MAGIC:
            raise ValueError(
                f"{self.path} is a pickle, but not one that PyTorch wrote (it has no magic number). If it is a "
                ".pdparams of Paddle, give it that suffix."
            )
        if run(source, self.path, _ENCODING) != _LEGACY_PROTOCOL:
            self._fail("its protocol is not 1001")
        system = run(source, self.path, _ENCODING)
        if isinstance(system, dict) and system.get("little_endian") is False:
            self._fail("it was written by a big-endian machine, which is not supported")
        self._storages: dict[str, Storage] = {}
        self._positions: dict[str, int] = {}
        tree = run(source, self.path, _ENCODING, functools.partial(TorchMachine, self._legacy_storage))
        self._locate(run(source, self.path, _ENCODING))
        return tree

    def _legacy_storage(self, dtype: str, key: str, numel: int) -> Storage:
        if key in self._storages:
            return self._storages[key]
        size = numel * itemsize(dtype)
        if size > self._size:
            raise ValueError(f"storage {key} should have {numel} numbers, more than the file holds")

        @functools.cache
        def read() -> Any:
            self._take(size)
            self._file.seek(self._positions[key])
            return self._file.read(size)

        self._storages[key] = Storage(dtype, key, numel, read)
        return self._storages[key]

    def _locate(self, keys: Any) -> None:
        """Locate each storage after the pickles: its number of elements (int64), then its bytes."""
        storages = self._storages
        if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or sorted(keys) != sorted(storages):
            self._fail("its list of storages does not match its tensors")
        position = self._file.tell()
        for key in keys:
            self._file.seek(position)
            head = self._file.read(8)
            numel = struct.unpack("<q", head)[0] if len(head) == 8 else -1
            end = position + 8 + numel * itemsize(storages[key].dtype)
            if numel != storages[key].numel or end > self._size:
                self._fail(f"storage {key} has {numel} numbers for {storages[key].numel}, or is truncated")
            self._positions[key], position = position + 8, end
