"""Image files from a user's arguments: files, folders, lists."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Union, cast

import numpy as np

from ppfacerec.core.image_size import IMAGE_SHAPE
from ppfacerec.core.io.text_file import BLANKS, read_lines
from ppfacerec.core.io.user_files import IMAGE_SUFFIXES, normalized_name, read_regular, walk_images
from ppfacerec.core.log import logger
from ppfacerec.data.transforms.images import decode_rgb

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # of PIL
_EXPECTED = "a path, an image's bytes, a PIL image, or uint8 RGB (H, W, 3)"
Image = Union[str, Path, bytes, BinaryIO, np.ndarray]  # or a PIL image


def find_images(paths: str | Path | Sequence[str | Path], allow_outside: bool = False) -> list[Path]:
    """Return files in order: a folder's images (recursive), a .txt's lines (relative to it; a tab ends the path).

    Args:
        paths: given by the user.
        allow_outside: allow absolute paths, and ``..`` out of a list's folder, in lists.

    Raises:
        ValueError: a path does not exist, a list leads out of its folder, or there is no image.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        if path.is_dir():
            walked = walk_images(path)
            images = [path / name for name in walked.images]
            if walked.left_out():
                logger.warning("Left out in %s: %s.", path, walked.left_out())
        elif not path.exists():
            raise ValueError(
                f"{path} does not exist; expected an image, a folder of images, or a .txt that lists them."
            )
        else:
            images = list(_listed(path, allow_outside)) if path.suffix == ".txt" else [path]
        if not images:
            raise ValueError(f"{path}: no images in it ({', '.join(IMAGE_SUFFIXES)}).")
        found += images
    return found


def person_of(path: Path, folder: Path) -> str:
    """Return the person of an image: its folder below `folder`, or its name without suffix and LFW's number."""
    parts = path.relative_to(folder).parts
    return normalized_name(parts[0] if len(parts) > 1 else re.sub(r"(?<=.)[_ -]\d+$", "", path.stem))


def read_image(image: Image, where: str, size: tuple[int, int] = IMAGE_SHAPE[:2]) -> np.ndarray:
    """Return uint8 RGB pixels (112, 112, 3) of a path, encoded bytes, a file, a PIL image or such an array.

    Raises:
        ValueError: it is no image, of another size, or an array of another shape or dtype.
    """
    if isinstance(image, (str, Path)):
        try:
            image = read_regular(image)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name, a pipe
            raise ValueError(f"{where} cannot be read ({getattr(error, 'strerror', error)}).") from error
    elif hasattr(image, "read"):
        image = image.read()
    elif hasattr(image, "getbands"):  # PIL's
        file = io.BytesIO()  # as a PNG, so that transparent and 16-bit pixels are treated as in files
        picture = cast(Any, image)
        (picture if picture.mode in _PNG_MODES else picture.convert("RGB")).save(file, "PNG", compress_level=1)
        image = file.getvalue()
    if isinstance(image, (bytes, bytearray, memoryview)):
        image = decode_rgb(bytes(image), where)
    if isinstance(image, np.ndarray) and (image.ndim == 2 or image.shape[2:] == (1,)):  # grey
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"{where}: expected {_EXPECTED}, found {found}.")
    if image.shape[:2] != size:
        raise ValueError(
            f"{where}: the image is {image.shape[1]} x {image.shape[0]}, expected an aligned face of {size[1]} x "
            f"{size[0]}. Align it first (`ppfacerec align`, five points); resizing alone costs accuracy."
        )
    return image


def name_of(image: Image, number: int) -> str:
    """Name of an image in messages."""
    return str(image) if isinstance(image, (str, Path)) else f"image {number}"


def is_one_image(images: Any) -> bool:
    """Whether the argument is a single image."""
    if isinstance(images, np.ndarray):
        if images.shape[:1] == (3,) and images.ndim == 3 and images.shape[2] not in (1, 3, 4):
            raise ValueError(
                f"An array of shape {list(images.shape)} has its channels first, or is three grey images. Give (H, W, "
                "3), image.transpose(1, 2, 0), or a list of three."
            )
        if images.ndim < 2 and images.dtype.kind not in "OU":
            raise ValueError(f"images: expected {_EXPECTED}, found {images.dtype} {list(images.shape)}.")
        return images.ndim == 2 or (images.ndim == 3 and images.shape[2] in (1, 3, 4))
    if isinstance(images, (str, Path, bytes, bytearray, memoryview)):
        return True
    if hasattr(images, "read") or hasattr(images, "getbands"):
        return True
    if not isinstance(images, Iterable):
        raise ValueError(f"images: expected {_EXPECTED}, or several of them in an iterable, found {images!r}.")
    return False


def _listed(path: Path, allow_outside: bool) -> Iterator[Path]:
    for number, line in read_lines(path, "image list"):
        name = line.split("\t")[0].strip(BLANKS)
        is_outside = Path(name).is_absolute() or ".." in Path(name).parts
        if is_outside and not allow_outside:
            raise ValueError(
                f"{path}, line {number}: {name[:80]!r} leads out of the list's folder. Write paths relative to it, or "
                "give --allow-outside if you trust the list."
            )
        yield path.parent / name
