"""Image files from what a person names: files, folders, lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Union

import numpy as np

from ppfacerec.data.images import decode_rgb
from ppfacerec.user_files import IMAGE_SUFFIXES, read_regular

LIST_SUFFIX = ".txt"
Image = Union[str, Path, bytes, np.ndarray]


def find_images(paths: Sequence[Union[str, Path]], allow_outside: bool = False) -> list[Path]:
    """Return files in order: a folder's images in it and below, a .txt's lines (relative to it; a tab ends the path).

    Args:
        paths: what a person names.
        allow_outside: a list may name absolute paths, and paths that lead out of its folder with ``..``.

    Raises:
        ValueError: a path does not exist, a list leads out of its folder, or there is no image in what was named.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            images = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        elif not path.is_file():
            raise ValueError(
                f"{path} does not exist; expected an image, a folder of images, or a .txt that lists them."
            )
        else:
            images = list(_listed(path, allow_outside)) if path.suffix == LIST_SUFFIX else [path]
        if not images:
            raise ValueError(f"{path}: no image in it ({', '.join(IMAGE_SUFFIXES)}).")
        found += images
    return found


def person_of(path: Path, folder: Path) -> str:
    """Whose an image is: the folder below `folder` that it lies in, or its own name without number and suffix."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else path.stem


def read_image(image: Image, where: str, size: tuple[int, int] = (112, 112)) -> np.ndarray:
    """Return uint8 RGB pixels (112, 112, 3) of a path, of encoded bytes, or of such an array.

    Raises:
        ValueError: it is no image, of another size, or an array of another kind.
    """
    if isinstance(image, (str, Path)):
        try:
            image = read_regular(image)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise ValueError(f"{where} cannot be read ({getattr(error, 'strerror', error)}).") from error
    if isinstance(image, (bytes, bytearray)):
        image = decode_rgb(bytes(image), where)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"{where}: expected a path, an image's bytes, or uint8 RGB (H, W, 3), found {found}.")
    if image.shape[:2] != size:
        raise ValueError(
            f"{where}: the image is {image.shape[1]} x {image.shape[0]}, expected an aligned face of {size[1]} x "
            f"{size[0]}. Align it first (five points, arcface_112x112); resizing alone costs accuracy."
        )
    return image


def names_of(images: Iterable[Image]) -> list[str]:
    """How to call images in messages."""
    return [str(x) if isinstance(x, (str, Path)) else f"image {i}" for i, x in enumerate(images)]


def _listed(path: Path, allow_outside: bool) -> Iterator[Path]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        name = line.split("\t")[0].strip()
        is_outside = Path(name).is_absolute() or ".." in Path(name).parts
        if is_outside and not allow_outside:
            raise ValueError(
                f"{path}, line {number}: {name[:80]!r} leads out of the list's folder. Write paths relative to it, or "
                "give --allow-outside if you trust the list."
            )
        if name:
            yield path.parent / name
