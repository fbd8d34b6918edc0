"""Laws of decoding."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib


def blank_png(width: int, height: int) -> bytes:
    """A PNG of zeros: 300 KB for 300 MB of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(bytes(height * (3 * width + 1)), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_an_image_that_unfolds_to_gigabytes_is_refused(tmp_path):
    """In a process of its own, because OpenCV reads its limit when it is imported."""
    (tmp_path / "bomb.png").write_bytes(blank_png(20000, 5000))
    code = (
        "from pathlib import Path; from ppfacerec.data.images import decode_rgb; "
        f"decode_rgb(Path({str(tmp_path / 'bomb.png')!r}).read_bytes(), 'bomb.png')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ValueError: bomb.png does not decode as an image (more than 67,108,864 pixels): " in done.stderr
