"""The allow-list unpickler: reads what NumPy, Paddle and Python 2 write, and runs nothing."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfacerec.core.io import safe_pickle
from ppfacerec.core.io.safe_pickle import UnsafePickleError
from ppfacerec.core.io.safe_pickle.reader import Source, run

ARRAYS = [
    np.arange(6, dtype="float32").reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(10, dtype="uint8")[::2],
    np.arange(3, dtype=">i4"),
    np.ones((2, 2), "float16"),
    np.array([True, False]),
    np.array([1 + 2j], "complex64"),
    np.zeros((0, 3)),
    np.array(3.0),
]
SCALARS = [np.float32(1.5), np.bool_(True), np.int64(-3)]


def loads(data: bytes, encoding: str = "bytes", where: str = "the pickle") -> Any:
    return run(Source(io.BytesIO(data), len(data)), where, encoding)


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_and_arrays_come_back_equal(protocol: int) -> None:
    plain: dict[Any, Any] = {
        "a": [1, -(2**70), 2.5, None, True],
        7: (b"", b"\xff\x00", "é\n"),
        "empty": ([], (), {}),
        b"k": (1,),
    }
    assert loads(pickle.dumps(plain, protocol)) == plain
    assert loads(pickle.dumps(OrderedDict(a=1, b=2), protocol)) == OrderedDict(a=1, b=2)
    for array in ARRAYS:
        first, nested = loads(pickle.dumps([array, {"again": array}], protocol))
        assert type(first) is np.ndarray
        assert first is nested["again"]
        assert first.dtype == array.dtype
        assert not first.flags.writeable
        np.testing.assert_array_equal(first, array)
    for scalar in SCALARS:
        got = loads(pickle.dumps(scalar, protocol))
        assert type(got) is type(scalar)
        assert got == scalar


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_arrays_of_numpy_1_and_numpy_2_are_read(module: str) -> None:
    written = pickle.dumps(ARRAYS[0], 2)
    for name in (b"numpy._core.", b"numpy.core."):
        written = written.replace(name, module.encode() + b".")
    np.testing.assert_array_equal(loads(written), ARRAYS[0])


def test_strings_of_python_2_are_bytes_or_what_is_asked() -> None:
    written = b"\x80\x02]q\x00(U\x03\xff\xd8aT\x02\x00\x00\x00\xe9be."
    assert loads(written) == [b"\xff\xd8a", b"\xe9b"]
    assert loads(written, encoding="latin1") == ["ÿØa", "éb"]
    array = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01bt R".replace(b" ", b"")
    array += (
        b"(K\x01K\x02\x85cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array += b"\x89U\x02\x07\xfftb."
    for encoding in ("bytes", "latin1"):
        assert loads(array, encoding=encoding).tolist() == [7, 255]


def test_files_of_paddle_are_read(tmp_path: Path) -> None:
    paddle = pytest.importorskip("paddle")
    layer = paddle.nn.Sequential(paddle.nn.Linear(3, 4), paddle.nn.BatchNorm1D(4))
    schedule = paddle.optimizer.lr.LinearWarmup(paddle.optimizer.lr.CosineAnnealingDecay(1e-3, 10), 2, 0.0, 1e-3)
    optimizer = paddle.optimizer.AdamW(learning_rate=schedule, parameters=layer.parameters())
    layer(paddle.ones([5, 3])).mean().backward()
    optimizer.step()
    for protocol in (2, 3, 4):
        paddle.save(layer.state_dict(), str(tmp_path / "m.pdparams"), protocol=protocol)
        read = safe_pickle.load(tmp_path / "m.pdparams")
        assert set(read.pop("StructuredToParameterName@@")) == set(read) == set(layer.state_dict())
        for name, tensor in layer.state_dict().items():
            np.testing.assert_array_equal(read[name], tensor.numpy())
    assert layer.set_state_dict(read) in (None, ([], []))
    paddle.save(optimizer.state_dict(), str(tmp_path / "m.pdopt"))
    read = safe_pickle.load(tmp_path / "m.pdopt")
    del read["StructuredToParameterName@@"]
    assert read["LR_Scheduler"]["last_epoch"] == 0
    assert set(read) == set(optimizer.state_dict())


def test_loose_and_half_precision_tensors_of_paddle_are_read(tmp_path: Path) -> None:
    paddle = pytest.importorskip("paddle")
    tensor = paddle.to_tensor([1.0, -2.0])
    paddle.save({"list": [tensor], "epoch": 3}, str(tmp_path / "m.pdstates"))
    read = safe_pickle.load(tmp_path / "m.pdstates")
    assert read["epoch"] == 3
    assert read["list"][0][1].tolist() == [1, -2]
    paddle.save({name: tensor.astype(name) for name in ("float16", "bfloat16")}, str(tmp_path / "m.pdparams"))
    read = safe_pickle.load(tmp_path / "m.pdparams")
    assert read["float16"].tolist() == [1, -2]
    assert read["bfloat16"].tolist() == [0x3F80, 0xC000]
    assert read["bfloat16"].dtype == np.uint16


TRAP = Path("trap_was_run")
FUNCTIONS = [
    (os.system, f"touch {TRAP}"),
    (os.mkdir, str(TRAP)),
    (eval, f"open('{TRAP}', 'w')"),
    (exec, f"open('{TRAP}', 'w')"),
    (getattr, "", "join"),
    (np.save, str(TRAP), 1),
    (np.load, "x.npy", None, True),
    (np.testing.assert_equal, 1, 1),
    (set, [1]),
]


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
@pytest.mark.parametrize("call", FUNCTIONS, ids=lambda call: call[0].__name__)
def test_hostile_file_runs_nothing_and_is_named(
    call: tuple[Any, ...], protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.bin").write_bytes(pickle.dumps([{"deep": (1, Calls(*call))}], protocol))
    with pytest.raises(UnsafePickleError) as error:
        safe_pickle.load("evil.bin")
    module = {"builtins": "__builtin__"}.get(call[0].__module__) if protocol < 3 else None  # Python 2's name
    assert str(error.value) == (
        f"evil.bin is not safe to open: it tries to import {module or call[0].__module__}.{call[0].__name__}. "
        "Nothing was executed. Only plain data and NumPy arrays are read; get the file from someone you trust, or write it "
        "again."
    )
    assert os.listdir() == ["evil.bin"]


STREAMS = {  # handwritten opcodes: what each tries, and what the message must hold
    "inst": (b"(S'touch x'\nios\nsystem\n.", "tries to import os.system"),
    "obj": (b"(cos\nsystem\nS'x'\no.", "tries to import os.system"),
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.system\x93.", "tries to import numpy.f2py.os.system"),
    "newobj": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "the opcode NEWOBJ"),
    "persistent id": (b"Pabc\n.", "the opcode PERSID"),
    "extension": (b"\x80\x02\x82\x01.", "the opcode EXT1"),
    "attributes of a dict": (b"}}b.", "sets attributes of a dict"),
    "attributes of a function": (b"cnumpy\nndarray\n}b.", "sets attributes of a Call"),
    "codec": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.", "a codec other than latin1"),
    "call of a string": (b"\x80\x02X\x01\x00\x00\x00a)R.", "that is not a function is called"),
    "call of ndarray": (b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.", "numpy.ndarray is called directly"),
    "wrong arguments": (b"\x80\x02cnumpy.core.multiarray\nscalar\n)R.", "with the wrong arguments"),
    "object dtype": (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.", "dtype 'O8'"),
    "structured dtype": (b"\x80\x02cnumpy\ndtype\nX\x05\x00\x00\x00i4,O8\x85R.", "dtype 'i4,O8'"),
    "dtype that stays": (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R.", "stands where a value should be"),
    "unfinished array": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R\x85.",
        "stands where a value should be",
    ),
    "list of itself": (b"\x80\x02]q\x00h\x00a.", "nested more than 100 deep, or contain themselves"),
    "key of lists": (b"}]K\x01s.", "a key of type list"),
    "key of tuples": (b"})\x85K\x01s.", "a key of type tuple"),
    "key with a chosen hash": (b"}\x8a\x09" + b"\x01" * 9 + b"K\x01s.", "a key of type int, or one that is too long"),
    "memo far out": (b"Np99999999999999999999\n.", "a memo number is out of range"),
    "key without a value": (b"}(K\x01u.", "a key without a value"),
    "missing memo": (b"\x80\x02h\x05.", "memo 5 was never written"),
    "missing mark": (b"\x80\x02t.", "a mark is missing"),
    "missing value": (b"\x80\x02.", "values are left on the stack"),
    "two values": (b"\x80\x02NN.", "values are left on the stack"),
}


@pytest.mark.parametrize("case", STREAMS)
def test_handwritten_opcodes_are_refused(case: str) -> None:
    data, message = STREAMS[case]
    with pytest.raises(ValueError, match=r"^evil\.bin is .*" + re.escape(message)):
        loads(data, where="evil.bin")


def test_claimed_sizes_take_no_memory() -> None:
    giant = b"\x80\x05\x8e" + struct.pack("<Q", 2**62) + b"abc"  # BINBYTES8
    memo = b"\x80\x02Nr\xff\xff\xff\xff."  # LONG_BINPUT at 2**32 - 1: 64 GB in the C unpickler
    assert loads(memo) is None
    with pytest.raises(ValueError, match="expected 4611686018427387904 bytes in a bytes8, but only 3 remain"):
        loads(giant)
    good = pickle.dumps(np.zeros((2, 3), "float32"), 2)
    for size in (b"J\xff\xff\xff\x7f", b"\x8a\x08" + struct.pack("<q", 2**46), b"\x8a\x08" + struct.pack("<q", -1)):
        with pytest.raises(ValueError, match="an array"):
            loads(good.replace(b"K\x02K\x03\x86", size + b"K\x03\x86"))


@pytest.mark.parametrize("opening", [b"(", b"]", b"}K\x00"])
def test_deep_nesting_neither_overflows_nor_hangs(opening: bytes) -> None:
    closing = {b"(": b"t", b"]": b"a", b"}K\x00": b"s"}[opening]
    data = opening * 50_000 + b"N" + closing * 50_000 + b"."
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        loads(data)
    with pytest.raises(ValueError, match=r"a key of type|nested more than 100 deep"):
        loads(b"}" + data[:-1] + b"Ns.")


def test_doubling_lists_do_not_unfold() -> None:
    doubling = b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (k, k, k + 1) for k in range(90)) + b"."
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"left on the stack|expands to more than 50000000 values"):
        loads(doubling)
    shared: list[Any] = [0]
    for _ in range(60):
        shared = [shared, shared]
    with pytest.raises(ValueError, match="expands to more than 50000000 values"):
        loads(pickle.dumps(shared))
    assert time.perf_counter() - start < 5


REPEATED = {  # calls on memo 0, a long text, or memo 1, a long list
    "bytes": b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R",
    "tuple": b"c__builtin__\ntuple\nh\x01\x85R",
}


@pytest.mark.parametrize("call", REPEATED.values(), ids=REPEATED)
def test_one_long_value_does_not_become_a_thousand(call: bytes) -> None:
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00"
    elements = b"](" + b"N" * 100_000 + b"eq\x01"
    with pytest.raises(ValueError, match="it expands to far more than the file holds"):
        loads(b"\x80\x02](" + text + elements + call * 1000 + b"e.")


def test_every_truncation_is_explained() -> None:
    data = pickle.dumps(([b"image"] * 4, [True, False], np.arange(4)), 4)
    for length in range(1, len(data)):
        with pytest.raises(ValueError, match=r"^cut.bin is (damaged, truncated or not a pickle|not safe to open)"):
            loads(data[:length], where="cut.bin")


NO_PICKLES = {
    b"": "is empty (0 bytes). Copy, download or write it again.",
    b"<!DOCTYPE html><html>": "it starts with b'<!DOCTYPE html><'): at position 0, opcode b'<' unknown. Copy, download",
    b"version https://git-lfs.github.com/spec/v1\n": "it starts with b'version https://'",
    b"\xff\xd8\xff\xe0": "it starts with b'\\xff\\xd8\\xff\\xe0'",
}


@pytest.mark.parametrize("content", NO_PICKLES)
def test_file_that_is_no_pickle_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.bin (is damaged.*)?" + re.escape(NO_PICKLES[content])):
        safe_pickle.load(tmp_path / "x.bin")


def test_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is not a regular file"):
        safe_pickle.load(tmp_path / "pipe")
