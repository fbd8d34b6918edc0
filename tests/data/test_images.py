"""Laws of decoding."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from conftest import picture

from ppfacerec.data.transforms.image_size import image_size
from ppfacerec.data.transforms.images import decode_rgb, resize_short_side


def blank_png(width: int, height: int) -> bytes:
    """A PNG of zeros: 300 KB for 300 MB of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(bytes(height * (3 * width + 1)), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "import cv2; "])
def test_an_image_that_unfolds_to_gigabytes_is_refused(tmp_path, first):
    """In a process of its own, because OpenCV reads its limit when it is imported; also where that was before us."""
    (tmp_path / "bomb.png").write_bytes(blank_png(20000, 5000))
    code = (
        f"{first}from pathlib import Path; from ppfacerec.data.transforms.images import decode_rgb; "
        f"decode_rgb(Path({str(tmp_path / 'bomb.png')!r}).read_bytes(), 'bomb.png')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ValueError: bomb.png does not decode as an image (more than 67,108,864 pixels; " in done.stderr


@pytest.mark.parametrize("encoding", [".jpg", ".png", ".bmp", ".webp", "progressive", "lossless"])
def test_the_header_tells_the_size(encoding):
    options = {"progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], "lossless": [cv2.IMWRITE_WEBP_QUALITY, 101]}
    suffix = {"progressive": ".jpg", "lossless": ".webp"}.get(encoding, encoding)
    pixels = np.random.default_rng(0).integers(0, 255, (37, 123, 3), np.uint8)
    data = cv2.imencode(suffix, pixels, options.get(encoding, []))[1].tobytes()
    assert image_size(data) == (123, 37)
    assert all(image_size(data[:length]) in (None, (123, 37)) for length in range(12, 40))


def test_the_size_is_read_also_from_headers_that_other_libraries_refuse():
    """OpenCV decodes both; Pillow refuses them, and so cannot guard the limit of pixels."""
    bad_text = struct.pack(">I4s4sI", 4, b"tEXt", b"a\0bc", 0)  # its checksum is wrong
    png_bytes = blank_png(123, 37)
    assert image_size(png_bytes[:33] + bad_text + png_bytes[33:]) == (123, 37)
    assert image_size(b"BM" + bytes(12) + struct.pack("<Iii", 128, 123, -37) + bytes(120)) == (123, 37)


@pytest.mark.parametrize("suffix", [".tiff", ".ppm"])
def test_formats_that_no_face_set_has_are_not_decoded(suffix):
    """OpenCV reads some twenty; each decoder less is one that a hostile file cannot reach."""
    data = cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match=r"does not decode as an image: .* Expected the bytes of a JPEG, PNG, BMP or"):
        decode_rgb(data, "x")


def png(image, bits=None):
    return cv2.imencode(".png", image)[1].tobytes()


def test_transparent_pixels_show_no_hidden_colour():
    bgra = np.full((8, 8, 4), 200, np.uint8)
    bgra[..., 3] = 255
    bgra[:4, :, 3] = 0
    for encoded in (png(bgra), cv2.imencode(".webp", bgra, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()):
        image = decode_rgb(encoded, "x")
        assert (image[:4] == 0).all() and (image[4:] == 200).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_the_bits_that_a_16_bit_png_uses_become_8(bits):
    ramp = np.linspace(0, 2**bits - 1, 256).astype(np.uint16)
    for image in (np.tile(ramp, (4, 1)), np.tile(ramp[:, None], (4, 1, 3))):
        decoded = decode_rgb(png(image), "x")
        assert decoded.shape == (4, 256, 3) and decoded.dtype == np.uint8
        assert np.abs(decoded[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_an_opaque_png_is_what_opencv_reads():
    image = picture(3, 0)[..., ::-1]
    bgra = np.dstack([image, np.full((112, 112), 255, np.uint8)])
    np.testing.assert_array_equal(decode_rgb(png(bgra), "x"), decode_rgb(png(image), "x"))


def test_heic_is_read_where_its_package_is_there(monkeypatch):
    heic = b"\0\0\0\x1cftypheic" + b"\0" * 16
    monkeypatch.setitem(__import__("sys").modules, "pi_heif", None)
    with pytest.raises(ValueError, match=r'a.heic is a HEIC photo: pip install "ppfacerec\[heic\]" to read it'):
        decode_rgb(heic, "a.heic")


def test_a_damaged_heic_is_named():
    pytest.importorskip("pi_heif")
    with pytest.raises(ValueError, match=r"a\.heic does not decode as an image \("):
        decode_rgb(b"\0\0\0\x1cftypheic" + b"\0" * 16, "a.heic")


def test_a_long_image_asks_for_no_gigabytes():
    with pytest.raises(ValueError, match=r"long\.png: 200000 x 1 pixels are too elongated"):
        resize_short_side(decode_rgb(png(np.zeros((1, 200_000, 3), np.uint8)), "long.png"), "long.png")
