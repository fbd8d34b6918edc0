"""Photos of any size to aligned 112 x 112 faces, as ArcFace and nearly every later network expects them.

A face's five landmarks (eyes, nose, corners of the mouth, left to right in the picture) are brought to fixed places by
a rotation, a scale and a shift.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from ppfacerec.data.detectors import Detector, Face
from ppfacerec.data.images import decode_rgb
from ppfacerec.data.label_file import IMAGE_SUFFIXES
from ppfacerec.data.opencv import import_cv2
from ppfacerec.data.parallel import in_processes
from ppfacerec.text_file import fail, read_lines

# Places of the five landmarks in 112 x 112 (insightface's arcface_dst; Deng et al., arXiv:1801.07698).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)
SIZE = 112
_MOST_RESIDUAL = 21.0  # pixels of 112: a full profile has 20, five random points have mostly more


class Aligned(NamedTuple):
    """What became of one photo: its name, and why there is no face; "" where there is one."""

    name: str
    problem: str


def similarity_transform(points: np.ndarray, target: np.ndarray = TEMPLATE) -> np.ndarray:
    """Return the 2 x 3 matrix of the least-squares rotation, scale and shift from `points` (5, 2) to `target`.

    Umeyama, Least-squares estimation of transformation parameters between two point patterns, PAMI 13(4), 1991, eqs.
    40 to 42.

    Raises:
        ValueError: the points are all at one place.
    """
    points = np.asarray(points, np.float64)
    mean, target_mean = points.mean(axis=0), target.mean(axis=0)
    centred, target_centred = points - mean, target - target_mean
    variance = (centred**2).sum() / len(points)
    if not variance > 0 or not np.isfinite(variance):
        raise ValueError("the five landmarks are all at one place")
    left, singular, right = np.linalg.svd(target_centred.T @ centred / len(points))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])  # no mirror image
    rotation = left @ np.diag(signs) @ right
    scale = (singular * signs).sum() / variance
    return np.hstack([scale * rotation, (target_mean - scale * rotation @ mean)[:, None]])


def align(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the face (112, 112, 3) of an image (H, W, 3) with landmarks `points` (5, 2) in its pixels.

    Raises:
        ValueError: the landmarks are not those of a face.
    """
    matrix = similarity_transform(points)
    placed = np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]
    residual = float(np.abs(placed - TEMPLATE).max())
    if residual > _MOST_RESIDUAL:
        raise ValueError(f"its landmarks are not those of a face: one stays {residual:.0f} pixels off its place")
    return import_cv2().warpAffine(image, matrix, (SIZE, SIZE), flags=1, borderValue=0)  # 1: bilinear


def read_landmarks(path: str) -> dict[str, np.ndarray]:
    """Read lines ``path x1 y1 x2 y2 x3 y3 x4 y4 x5 y5`` (tab, comma or blanks between) to points (5, 2) by path.

    Raises:
        ValueError: a line of another form, no line; with file and line.
    """
    landmarks: dict[str, np.ndarray] = {}
    for number, line in read_lines(path, "landmark file"):
        fields = line.replace("\t", " ").replace(",", " ").split()
        name, numbers = " ".join(fields[:-10]), fields[-10:]
        try:
            points = np.array([float(field) for field in numbers]).reshape(5, 2)
        except ValueError:
            points = np.full((5, 2), np.nan)
        if not name or not np.isfinite(points).all():
            fail(path, number, f"expected 'path x1 y1 ... x5 y5' with numbers, found {line[:80]!r}.")
        landmarks[os.path.normpath(name)] = points
    if not landmarks:
        raise ValueError(f"{path}: no line in it. Expected lines 'path x1 y1 ... x5 y5'.")
    return landmarks


def align_folder(
    root: str,
    out: str,
    landmarks: Optional[Mapping[str, np.ndarray]],
    detector: Optional[Callable[[], Detector]],
    num_processes: int,
    suffix: str = ".jpg",
) -> Iterator[Aligned]:
    """Align every image below `root` into `out`, in the same folders; yield what became of each, in order.

    Faces that are there already are left: run it once more after an interruption. Of several faces in a photo the
    largest near the middle counts. Either `landmarks` or `detector` is given; the latter is made once in each process.
    """
    names = sorted(images_below(root))
    if not names:
        raise ValueError(f"{root}: no image in it or in a folder of it {IMAGE_SUFFIXES}.")
    find = partial(_listed, landmarks) if landmarks is not None else _Detecting(detector)
    return in_processes(_Aligner(root, out, find, suffix), names, num_processes)


def images_below(root: str) -> Iterable[str]:
    """Paths of all images below a folder, relative to it."""
    for folder, _, files in os.walk(root):
        for name in files:
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), root)


def main_face(faces: list[Face], width: int, height: int) -> Optional[Face]:
    """The largest face near the middle (insightface's rule: area less twice the squared distance of the centres)."""

    def weight(face: Face) -> float:
        x, y, w, h = face.box
        return w * h - 2.0 * ((x + w / 2 - width / 2) ** 2 + (y + h / 2 - height / 2) ** 2)

    return max(faces, key=weight, default=None)


_Find = Callable[[str, np.ndarray], Optional[np.ndarray]]


def _listed(landmarks: Mapping[str, np.ndarray], name: str, image: np.ndarray) -> Optional[np.ndarray]:
    return landmarks.get(os.path.normpath(name))


class _Detecting:
    """Finds landmarks with a detector that is made at the first image, in the process that uses it."""

    def __init__(self, make: Optional[Callable[[], Detector]]) -> None:
        assert make is not None
        self._make = make
        self._detector: Optional[Detector] = None

    def __call__(self, name: str, image: np.ndarray) -> Optional[np.ndarray]:
        if self._detector is None:
            self._detector = self._make()
        face = main_face(self._detector(image), image.shape[1], image.shape[0])
        return face.points if face else None


class _Aligner:
    def __init__(self, root: str, out: str, find: _Find, suffix: str) -> None:
        self._root, self._out, self._find, self._suffix = Path(root), Path(out), find, suffix

    def __call__(self, name: str) -> Aligned:
        target = (self._out / name).with_suffix(self._suffix)
        if target.is_file():
            return Aligned(name, "")
        try:
            image = decode_rgb((self._root / name).read_bytes(), name)
            points = self._find(name, image)
            if points is None:
                return Aligned(name, "no face found")
            face = align(image, points)
        except ValueError as error:
            return Aligned(name, str(error))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.stem}.tmp{self._suffix}")  # OpenCV writes by the suffix
        cv2 = import_cv2()
        cv2.imwrite(str(temporary), face[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        os.replace(temporary, target)
        return Aligned(name, "")
