"""`.bin` files: the three real forms are one, and no file does anything but hold pairs."""

from __future__ import annotations

import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfacerec.core import opencv
from ppfacerec.data.pairs.pair_bin import read_bin, write_bin
from ppfacerec.data.transforms.images import decode_rgb

IMAGES = [b"\xff\xd8one", b"\xff\xd8two", b"\xff\xd8one", b"\xff\xd8three"]
LABELS = [True, False]
EXPECTED = "Expected a pickle of (list of 2N encoded images, list of N booleans). Get or make the file again."


def python_2_bin() -> bytes:
    strings = b"".join(b"U" + bytes([len(image)]) + image for image in IMAGES)
    return b"\x80\x02](" + strings + b"e](\x88\x89e\x86."


def array_bin(protocol: int, column: bool) -> bytes:
    arrays = [np.frombuffer(image, np.uint8) for image in IMAGES]
    return pickle.dumps(
        ([a[:, None] if column else a for a in arrays], [np.bool_(label) for label in LABELS]), protocol
    )


FORMS = {
    "python 2 strings": python_2_bin(),
    "bytes, protocol 2": pickle.dumps((IMAGES, LABELS), 2),
    "bytes, protocol 4": pickle.dumps((IMAGES, LABELS), 4),
    "bytes, protocol 5": pickle.dumps([IMAGES, tuple(LABELS)], 5),
    "arrays, protocol 3": array_bin(3, column=False),
    "arrays [n, 1], protocol 3": array_bin(3, column=True),
    "arrays, protocol 5": array_bin(5, column=False),
    "labels as an array": pickle.dumps((IMAGES, np.array(LABELS))),
    "labels as 1 and 0": pickle.dumps((IMAGES, [1, 0])),
}


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "pairs.bin"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pairs(form: str, tmp_path: Path) -> None:
    pairs = read_bin(saved(tmp_path, FORMS[form]))
    assert len(pairs) == 2
    assert pairs.images == (b"\xff\xd8one", b"\xff\xd8two", b"\xff\xd8three")  # each distinct image once
    assert pairs.index.tolist() == [0, 1, 0, 2]
    assert pairs.is_same.tolist() == LABELS
    assert pairs.is_same.dtype == bool
    assert pairs.where(2) == f"{pairs.path}, entry 3 (pair 1)"


def test_what_is_written_is_read_by_us_and_by_plain_pickle(tmp_path: Path) -> None:
    write_bin(tmp_path / "new.bin", IMAGES, np.array(LABELS))
    pairs = read_bin(tmp_path / "new.bin")
    assert [pairs.images[k] for k in pairs.index] == IMAGES
    assert pairs.is_same.tolist() == LABELS
    with open(tmp_path / "new.bin", "rb") as file:  # as insightface's and PaddleClas's loaders do
        assert pickle.load(file, encoding="bytes") == (IMAGES, LABELS)
    assert os.listdir(tmp_path) == ["new.bin"]


def test_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bin(tmp_path / "new.bin", IMAGES, LABELS)
    before = (tmp_path / "new.bin").read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_bin(tmp_path / "new.bin", IMAGES[:2], [True])
    assert (tmp_path / "new.bin").read_bytes() == before
    assert os.listdir(tmp_path) == ["new.bin"]


MISTAKES = [
    ((IMAGES, [True]), f" has 4 images and 1 labels, expected two images per label. {EXPECTED}"),
    ((IMAGES[:3], LABELS), f" has 3 images and 2 labels, expected two images per label. {EXPECTED}"),
    ((IMAGES, [True, 2]), f": label 1: expected True or False, found 2. {EXPECTED}"),
    ((IMAGES, [True, 0.5]), f": label 1: expected True or False, found 0.5. {EXPECTED}"),
    ((IMAGES, ["same", "different"]), f": label 0: expected True or False, found str of 4. {EXPECTED}"),
    ((IMAGES, [[True], [False]]), f": label 0: expected True or False, found list of 1. {EXPECTED}"),
    ((IMAGES, [10**5000, 0]), f": label 0: expected True or False, found int. {EXPECTED}"),
    (
        ([*IMAGES[:3], "text"], LABELS),
        ": entry 3 (pair 1): expected the bytes of an encoded image or a uint8 array of them, found str of 4. "
        + EXPECTED,
    ),
    (
        ([*IMAGES[:2], np.zeros((2, 2), np.uint8), b""], LABELS),
        ": entry 2 (pair 1): expected the bytes of an encoded image or a uint8 array of them, found ndarray. "
        + EXPECTED,
    ),
    ((IMAGES, LABELS, []), f": found tuple of 3. {EXPECTED}"),
    ({"images": IMAGES}, f": found dict of 1. {EXPECTED}"),
    (7, f": found int. {EXPECTED}"),
    ((IMAGES, None), f": found tuple of 2 with NoneType in it. {EXPECTED}"),
    (([], []), f" holds no pairs. {EXPECTED}"),
]


@pytest.mark.parametrize(("content", "message"), MISTAKES)
def test_what_is_no_list_of_pairs_is_explained(content: Any, message: str, tmp_path: Path) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}{message}')}$"):
        read_bin(path)


def test_writing_pairs_without_labels_is_refused(tmp_path: Path) -> None:
    for images, labels in ((IMAGES, [True]), ([], [])):
        with pytest.raises(ValueError, match="expected two images per label, and at least one pair"):
            write_bin(tmp_path / "new.bin", images, labels)
    assert os.listdir(tmp_path) == []


def test_hostile_bin_runs_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path, b"\x80\x02(cos\nsystem\nX\x09\x00\x00\x00touch boo\x85R](\x88e\x86.")
    with pytest.raises(
        ValueError, match=r"pairs\.bin is not safe to open: it tries to import os\.system\. Nothing was executed"
    ):
        read_bin(path)


@pytest.mark.parametrize("form", ["python 2 strings", "bytes, protocol 4", "arrays, protocol 3", "arrays, protocol 5"])
def test_damaged_bin_gives_pairs_or_a_value_error(form: str, tmp_path: Path) -> None:
    random, good = np.random.default_rng(0), FORMS[form]
    messages = []
    for k in range(750):
        data = bytearray(good)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] ^= 1 << random.integers(8)
        path = saved(tmp_path, bytes(data[: random.integers(len(data))] if k % 3 == 0 else data))
        try:
            pairs = read_bin(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert len(pairs.index) == 2 * len(pairs)
            assert pairs.index.max() < len(pairs.images)
    assert 0 < len(messages) < 750  # flips in an image's bytes are not seen here
    assert all(message.startswith(str(tmp_path / "pairs.bin")) for message in messages)


def test_damaged_images_in_a_bin_decode_or_are_named(tmp_path: Path) -> None:
    random, cv2 = np.random.default_rng(1), opencv.import_cv2()
    images = [cv2.imencode(".jpg", random.integers(0, 256, (16, 16, 3), np.uint8))[1].tobytes() for _ in range(4)]
    good, messages = pickle.dumps((images, LABELS), 4), []
    for _ in range(1000):
        data = bytearray(good)
        for position in random.integers(len(data), size=random.integers(1, 30)):
            data[position] ^= 1 << random.integers(8)
        path = saved(tmp_path, bytes(data))
        try:
            pairs = read_bin(path)
            shapes = [decode_rgb(pairs.read(i), pairs.where(i)).shape for i in range(pairs.num_images)]
        except ValueError as error:
            messages.append(str(error))
        else:
            assert all(len(shape) == 3 and shape[2] == 3 for shape in shapes)
    assert 0 < len(messages) < 1000
    assert all(message.startswith(str(tmp_path / "pairs.bin")) for message in messages)
    assert any("does not decode as an image" in message for message in messages)


def test_decoded_image_is_rgb_of_its_own_size() -> None:
    cv2 = opencv.import_cv2()
    bgr = np.zeros((5, 7, 3), np.uint8)
    bgr[..., 0] = 255  # blue
    encoded = cv2.imencode(".png", bgr)[1].tobytes()
    rgb = decode_rgb(encoded, "x")
    assert rgb.shape == (5, 7, 3)
    assert rgb.dtype == np.uint8
    assert rgb[0, 0].tolist() == [0, 0, 255]
    gray = cv2.imencode(".png", bgr[..., 0])[1].tobytes()
    assert decode_rgb(gray, "x").shape == (5, 7, 3)
    assert cv2.getNumThreads() == 1


@pytest.mark.parametrize("data", [b"", b"\xff\xd8one", b"<html></html>"])
def test_entry_that_does_not_decode_is_named(data: bytes) -> None:
    message = (
        f"lfw.bin, entry 17 (pair 8) does not decode as an image: {len(data)} bytes that start with {data[:8]!r}. "
        "Expected the bytes of a JPEG, PNG, BMP or WebP file. Replace or remove this image, or get the file again."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        decode_rgb(data, "lfw.bin, entry 17 (pair 8)")


def test_missing_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.import_cv2.cache_clear()
    with pytest.raises(ImportError, match=r"^OpenCV does not start: .*`pip install opencv-python-headless`"):
        opencv.import_cv2()
    opencv.import_cv2.cache_clear()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numbers_as_labels_and_bytearrays_as_images_are_read(tmp_path: Path, protocol: int) -> None:
    content = ([bytearray(b"left\xff"), bytearray(b"right")] * 2, [1.0, np.float32(0)])
    (tmp_path / "x.bin").write_bytes(pickle.dumps(content, protocol))
    pairs = read_bin(tmp_path / "x.bin")
    assert pairs.images == (b"left\xff", b"right")
    assert pairs.is_same.tolist() == [True, False]
    (tmp_path / "x.bin").write_bytes(pickle.dumps(([b"a", b"b"], [0.5]), protocol))
    with pytest.raises(ValueError, match="label 0: expected True or False, found 0.5"):
        read_bin(tmp_path / "x.bin")
