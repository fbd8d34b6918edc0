"""safetensors: what is written is read back, and a header is believed only as far as the bytes go."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from ppfacerec.weights.formats.safetensors_file import read_safetensors, write_safetensors

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.ones((2,), np.float16),
    "n": np.array(3, np.int64),
    "none": np.zeros((0, 4), np.float64),
}


def write_raw(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_what_is_written_is_read_back(tmp_path):
    write_safetensors(tmp_path / "w.safetensors", ARRAYS)
    arrays = read_safetensors(tmp_path / "w.safetensors")
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_the_safetensors_package_agrees(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    write_safetensors(tmp_path / "ours.safetensors", ARRAYS)
    package.save_file(ARRAYS, str(tmp_path / "theirs.safetensors"))
    for name, array in package.load_file(str(tmp_path / "ours.safetensors")).items():
        np.testing.assert_array_equal(array, ARRAYS[name])
    for name, array in read_safetensors(tmp_path / "theirs.safetensors").items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5], np.float32)
    data = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = write_raw(tmp_path / "w", {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, data)
    np.testing.assert_array_equal(read_safetensors(path)["a"], values)


def entry(start, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(0, 8, [3])}, "invalid shape, data type, or offset"),
        ({"a": entry(4, 8, [1])}, "invalid offset for tensor `a`"),
        ({"a": entry(0, 8, [2]), "b": entry(4, 8, [1])}, "invalid offset for tensor `b`"),
        ({"a": entry(0, 4, [1])}, "file not fully covered"),
        ({"a": entry(0, 2**47, [2**45])}, "file not fully covered"),
        ({"a": entry(0, 8, [1], "C64")}, "tensor 'a' has dtype C64"),
        ({"a": entry(0, 8, [-2])}, "expected usize"),
        ({"a": entry(0, 8, [True, 2])}, "expected usize"),
        ({"a": [1]}, "invalid JSON in header"),
        ({"__metadata__": {"a": 1}}, "expected a string"),
        (b"[]", "invalid JSON in header"),
        (b"{]", "invalid JSON in header"),
        (b"[" * 100_000, "invalid JSON in header"),
    ],
)
def test_a_header_that_does_not_describe_the_bytes_is_refused(tmp_path, header, message):
    with pytest.raises(ValueError, match=message):
        read_safetensors(write_raw(tmp_path / "w.safetensors", header, b"\0" * 8))


def test_a_length_beyond_the_file_is_refused(tmp_path):
    (tmp_path / "w").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(ValueError, match="header too large"):
        read_safetensors(tmp_path / "w")
