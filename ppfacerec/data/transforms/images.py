"""Decoding of encoded images."""

import io

import numpy as np

from ppfacerec.core.image_size import IMAGE_SIZE
from ppfacerec.core.opencv import MAX_PIXELS, PIXEL_LIMIT, counts_pixels, import_cv2
from ppfacerec.data.transforms.image_size import image_size

SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"BM": ".bmp", b"RIFF": ".webp"}
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")  # brands, after "ftyp"
_DEPTHS = (8, 10, 12, 14, 16)  # bits per channel of cameras
_TOO_LARGE = f" (more than {MAX_PIXELS:,} pixels; the environment's {PIXEL_LIMIT} sets another limit)"


def decode_rgb(data: bytes, where: object) -> np.ndarray:
    """Decode a JPEG, PNG, ... to uint8 RGB, [height, width, 3].

    Transparent pixels become black. 16-bit PNGs keep the 8 highest bits in use; otherwise 12-bit data would be black.

    Args:
        where: name of the image for messages, such as "lfw.bin, entry 17"; its ``str`` is used.

    Raises:
        ValueError: the format is not supported, the bytes do not decode, the image has too many pixels, a JPEG is
            truncated (older OpenCV versions fill the rest with grey), or HEIC is read without pi-heif.
    """
    cv2 = import_cv2()
    if _is_heif(data):
        return _decode_heif(data, where)
    if data and not data.startswith(tuple(SIGNATURES)):  # OpenCV has decoders for many more formats, with bugs
        raise ValueError(_cannot_decode(data, where, ""))
    if data and not counts_pixels():
        width, height = image_size(data) or (0, 0)
        if width * height > MAX_PIXELS:
            raise ValueError(_cannot_decode(data, where, _TOO_LARGE))
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < 0:  # searched from the end, where it is
        raise ValueError(_cannot_decode(data, where, " (the JPEG is truncated)"))
    colours = getattr(cv2, "IMREAD_COLOR_RGB", cv2.IMREAD_COLOR)  # OpenCV 4.10 and newer save a pass over the pixels
    flag = cv2.IMREAD_UNCHANGED if _is_deep_or_transparent(data) else colours
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error as error:  # such as too many pixels for OpenCV
        reason = _TOO_LARGE if "MAX_IMAGE_PIXELS" in str(error) else f" ({str(error).strip()})"
        raise ValueError(_cannot_decode(data, where, reason)) from error
    if image is None:
        raise ValueError(_cannot_decode(data, where, ""))
    if flag == cv2.IMREAD_UNCHANGED:
        return _shown(image)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if flag == cv2.IMREAD_COLOR else image


def _is_deep_or_transparent(data: bytes) -> bool:
    """Return whether the header gives 16 bits per channel (PNG) or possible transparency (PNG or WebP)."""
    if data.startswith(b"\x89PNG"):
        return data[24:25] == b"\x10" or data[25:26] in (b"\4", b"\6") or b"tRNS" in data[: data.find(b"IDAT")]
    if data.startswith(b"RIFF") and len(data) > 25:
        return bool((data[12:16] == b"VP8X" and data[20] & 0x10) or (data[12:16] == b"VP8L" and data[24] & 0x10))
    return False


def _shown(raw: np.ndarray) -> np.ndarray:
    """Convert OpenCV's uint8 or uint16, grey, BGR or BGRA, to uint8 RGB on black."""
    raw = raw[..., None] if raw.ndim == 2 else raw
    colours: np.ndarray = raw[..., 2::-1] if raw.shape[2] > 2 else raw[..., :1]
    alpha: np.ndarray = raw[..., 3:].astype(np.uint32)
    if raw.dtype == np.uint16:
        used = int(colours.max()).bit_length()
        colours, alpha = colours >> (min(depth for depth in _DEPTHS if depth >= used) - 8), alpha >> 8
    if alpha.size:
        colours = np.asarray((colours * alpha + 127) // 255, np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colours, (*raw.shape[:2], 3)), np.uint8)


def portable(data: bytes, where: object) -> bytes:
    """Return an image file's bytes for a .bin or .rec, with HEIC, which other programs do not read, as lossless PNG."""
    if not _is_heif(data):
        return data
    return import_cv2().imencode(".png", decode_rgb(data, where)[..., ::-1])[1].tobytes()


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF


def _decode_heif(data: bytes, where: object) -> np.ndarray:
    try:
        import pi_heif
    except ImportError as error:
        raise ValueError(f'{where} is a HEIC photo: pip install "ppfacerec[heic]" to read it ({error}).') from error
    try:
        heif = pi_heif.open_heif(io.BytesIO(data))
        if heif.size[0] * heif.size[1] > MAX_PIXELS:
            raise ValueError(_TOO_LARGE)
        pixels = np.asarray(heif)
    except (ValueError, RuntimeError, OSError, EOFError, SyntaxError) as error:
        raise ValueError(_cannot_decode(data, where, f" ({error})")) from error
    return _shown(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def resize_short_side(image: np.ndarray, where: object = "the image") -> np.ndarray:
    """Resize [H, W, 3] so that the short side has 112 pixels, then crop the central square.

    The resize is that of insightface's ``load_bin`` (MXNet's ``resize_short``: OpenCV's bicubic, the long side rounded
    down). insightface ends with an error if the result is not square; the central crop is ours.

    Raises:
        ValueError: the resized image would have more than 2^26 pixels.
    """
    cv2 = import_cv2()
    (height, width), size = image.shape[:2], IMAGE_SIZE
    if min(height, width) != size:
        resized = (size, size * height // width) if height > width else (size * width // height, size)
        if resized[0] * resized[1] > MAX_PIXELS:
            raise ValueError(f"{where}: {width} x {height} pixels are too elongated: resizing would take gigabytes.")
        image = cv2.resize(image, resized, interpolation=cv2.INTER_CUBIC)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def _cannot_decode(data: bytes, where: object, reason: str) -> str:
    return (
        f"{where} does not decode as an image{reason}: {len(data)} bytes that start with {bytes(data[:8])!r}. "
        "Expected the bytes of a JPEG, PNG, BMP or WebP file. Replace or remove this image, or get the file again."
    )
