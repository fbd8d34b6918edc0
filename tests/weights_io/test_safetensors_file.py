"""safetensors: what is written is read back, and a header is believed only as far as the bytes go."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from ppfacerec.weights_io.safetensors_file import read_safetensors, write_safetensors

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
    write_safetensors(tmp_path / "w.safetensors", ARRAYS, {"colors": "BGR"})
    arrays, metadata = read_safetensors(tmp_path / "w.safetensors")
    assert metadata == {"colors": "BGR"}
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_the_safetensors_package_agrees(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    write_safetensors(tmp_path / "ours.safetensors", ARRAYS)
    package.save_file(ARRAYS, str(tmp_path / "theirs.safetensors"))
    for name, array in package.load_file(str(tmp_path / "ours.safetensors")).items():
        np.testing.assert_array_equal(array, ARRAYS[name])
    for name, array in read_safetensors(tmp_path / "theirs.safetensors")[0].items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5], np.float32)
    data = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = write_raw(tmp_path / "w", {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, data)
    np.testing.assert_array_equal(read_safetensors(path)[0]["a"], values)


def entry(start, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(0, 8, [3])}, r"lies at 0 to 8, expected 0 to 12"),
        ({"a": entry(4, 8, [1])}, r"lies at 4 to 8, expected 0 to 4"),
        ({"a": entry(0, 8, [2]), "b": entry(4, 8, [1])}, "lies at 4 to 8, expected 8 to 12"),
        ({"a": entry(0, 4, [1])}, "its tensors need 4 bytes, behind the header are 8"),
        ({"a": entry(0, 2**47, [2**45])}, "its tensors need 140737488355328 bytes"),
        ({"a": entry(0, 8, [1], "C64")}, "tensor 'a' has the dtype C64"),
        ({"a": entry(0, 8, [-2])}, "is not {dtype, shape, data_offsets}"),
        ({"a": entry(0, 8, [True, 2])}, "is not {dtype, shape, data_offsets}"),
        ({"a": [1]}, "is not {dtype, shape, data_offsets}"),
        ({"__metadata__": {"a": 1}}, "its metadata are no texts"),
        (b"[]", "its header is no JSON object"),
        (b"{]", "its header is no JSON"),
        (b'{"a":1,"a":1}', "a name stands twice"),
        (b"[" * 100_000, "its header is no JSON"),
    ],
)
def test_a_header_that_does_not_describe_the_bytes_is_refused(tmp_path, header, message):
    with pytest.raises(ValueError, match=message):
        read_safetensors(write_raw(tmp_path / "w.safetensors", header, b"\0" * 8))


def test_a_length_beyond_the_file_is_refused(tmp_path):
    (tmp_path / "w").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(ValueError, match="its header should have 1152921504606846976 bytes, the file has 10"):
        read_safetensors(tmp_path / "w")
