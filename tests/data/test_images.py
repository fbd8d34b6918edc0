"""Laws of decoding."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from ppfacerec.data.image_size import image_size
from ppfacerec.data.images import decode_rgb


def blank_png(width: int, height: int) -> bytes:
    """A PNG of zeros: 300 KB for 300 MB of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(bytes(height * (3 * width + 1)), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("first", ["", "import cv2; "])
def test_an_image_that_unfolds_to_gigabytes_is_refused(tmp_path, first):
    """In a process of its own, because OpenCV reads its limit when it is imported; also where that was before us."""
    (tmp_path / "bomb.png").write_bytes(blank_png(20000, 5000))
    code = (
        f"{first}from pathlib import Path; from ppfacerec.data.images import decode_rgb; "
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


@pytest.mark.parametrize("suffix", [".tiff", ".ppm"])
def test_formats_that_no_face_set_has_are_not_decoded(suffix):
    """OpenCV reads some twenty; each decoder less is one that a hostile file cannot reach."""
    data = cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match=r"does not decode as an image: .* Expected the bytes of a JPEG, PNG, BMP or"):
        decode_rgb(data, "x")
