"""Alignment of photos to 112 x 112 faces by five landmarks: eyes, nose, mouth corners, from left to right."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ppfacerec.core.io.atomic_file import atomic_write_unsynced
from ppfacerec.core.io.text_file import fail, read_lines
from ppfacerec.core.io.user_files import IMAGE_SUFFIXES, read_regular
from ppfacerec.core.opencv import import_cv2
from ppfacerec.data.loading.parallel import in_processes
from ppfacerec.data.transforms.alignment import align, eye_contrast
from ppfacerec.data.transforms.images import decode_rgb
from ppfacerec.datatools.detectors import Detector, Face

_TURNED_SIZE = 160  # side in pixels of the crop in which a rotated face is searched
Faces = Literal["centre", "largest", "all"]


class Aligned(NamedTuple):
    """The result for one photo."""

    name: str
    problem: str = ""  # why no face was written; "" if one was
    doubt: str = ""  # why the crop may not be a face; "" if it looks like one
    left_out: int = 0  # detected faces that were not written
    was_there: bool = False  # the file existed already and was kept


def read_landmarks(path: str) -> dict[str, np.ndarray]:
    """Read lines ``path x1 y1 x2 y2 x3 y3 x4 y4 x5 y5`` (separated by tab, comma or blanks) to points (5, 2) by path.

    Raises:
        ValueError: a malformed line, or no line; with file and line.
    """
    landmarks: dict[str, np.ndarray] = {}
    for number, line in read_lines(path, "landmark file"):
        # everything before the last ten numbers is the path, with its own blanks and commas
        match = re.fullmatch(r"\s*(.*?)[\s,]+((?:[^\s,]+[\s,]+){9}[^\s,]+)\s*", line)
        name, numbers = (match[1], re.split(r"[\s,]+", match[2])) if match else ("", [])
        try:
            points = np.array([float(field) for field in numbers]).reshape(5, 2)
        except ValueError:
            points = np.full((5, 2), np.nan)
        if not name or not np.isfinite(points).all():
            fail(path, number, f"expected 'path x1 y1 ... x5 y5' with numbers, found {line[:80]!r}.")
        landmarks[os.path.normpath(name)] = points
    if not landmarks:
        raise ValueError(f"{path}: no lines found. Expected lines 'path x1 y1 ... x5 y5'.")
    return landmarks


def align_folder(
    root: Path,
    names: Sequence[str],
    out: Path,
    landmarks: Mapping[str, np.ndarray] | None,
    detector: Callable[[], Detector],
    *,
    num_processes: int,
    suffix: str = ".jpg",
    faces: Faces = "centre",
) -> Iterator[Aligned]:
    """Align the images `names` in `root` to the same paths in `out`; yield the results in order.

    Existing faces are kept, so that an interrupted run can be repeated. Each process makes a `detector` if necessary.

    Args:
        faces: which of several in a photo: the largest near the centre, the largest, or all (x.jpg, x.face1.jpg, ...).
    """
    if not names:
        raise ValueError(f"{root}: no images in it or its subfolders {IMAGE_SUFFIXES}.")
    targets = {name: f"{stem}{suffix}" for name, stem in _own_stems(names, faces).items()}
    return in_processes(_Aligner(root, out, targets, landmarks, detector, faces), names, num_processes)


def _own_stems(names: Sequence[str], faces: Faces) -> dict[str, str]:
    """Return a unique stem for each photo: its name without suffix, or with it if another photo's face has that stem.

    a.jpg, a.png and a.JPG become a.jpg, ... (.jpg); so does a.jpg.png beside them, and x.face1.jpg beside x.jpg.
    """
    stems = {name: os.path.splitext(name)[0] for name in names}
    counts = Counter([*stems.values(), *names])
    if faces == "all":
        counts.update(stem for stem in stems.values() if re.search(r"\.face\d+$", stem))
    return {name: name if counts[stem] > 1 else stem for name, stem in stems.items()}


def main_face(faces: list[Face], width: int, height: int) -> Face | None:
    """Return the largest face near the centre (insightface's rule: area - 2 x squared distance of the centres)."""

    def weight(face: Face) -> float:
        x, y, w, h = face.box
        return w * h - 2.0 * ((x + w / 2 - width / 2) ** 2 + (y + h / 2 - height / 2) ** 2)

    return max(faces, key=weight, default=None)


@dataclass
class _Aligner:
    root: Path
    out: Path
    targets: Mapping[str, str]
    landmarks: Mapping[str, np.ndarray] | None
    make_detector: Callable[[], Detector]
    faces: Faces

    @cached_property
    def _detector(self) -> Detector:
        """Made at the first photo, in the worker process."""
        return self.make_detector()

    def _find(self, name: str, image: np.ndarray) -> tuple[list[np.ndarray], int]:
        """Return the landmarks of the chosen faces, and the number of faces found."""
        if self.landmarks is not None:
            points = self.landmarks.get(os.path.normpath(name))
            return ([], 0) if points is None else ([points], 1)
        found = self._detector(image)
        taken = sorted(found, key=lambda face: -face.box[2] * face.box[3])
        if self.faces == "largest":
            taken = taken[:1]
        elif self.faces == "centre":
            main = main_face(found, image.shape[1], image.shape[0])
            taken = [main] if main else []
        if taken and (degrees := _turn(image, taken[0], self._detector)):
            raise ValueError(f"the photo seems rotated: its face is upright if it is rotated left by {degrees} degrees")
        return [face.points for face in taken], len(found)

    def __call__(self, name: str) -> Aligned:
        target, cv2 = self.out / self.targets[name], import_cv2()
        try:
            if target.is_file():
                return Aligned(name, doubt=_doubt([decode_rgb(read_regular(target), target)]), was_there=True)
            image = decode_rgb(read_regular(self.root / name), name)
            points, num_found = self._find(name, image)
            faces = [align(image, each) for each in points]
        except (ValueError, OSError, cv2.error) as error:
            return Aligned(name, str(error).strip())
        if not faces:
            return Aligned(name, "no face found")
        for number, face in reversed(list(enumerate(faces))):  # the main file last: if it exists, all do
            path = target.with_name(f"{target.stem}.face{number}{target.suffix}") if number else target
            encoded = cv2.imencode(target.suffix, face[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
            atomic_write_unsynced(path, encoded.tobytes())
        return Aligned(name, "", _doubt(faces), num_found - len(faces))


def _turn(image: np.ndarray, face: Face, detector: Detector) -> int:
    """Return the left rotation of the photo, in degrees, at which the detector's score of the face is highest.

    MTCNN on photos made of LFW's faces: 0 for 213 of 213 upright ones; of 221 others with a detection, 218 were not 0.
    """
    x, y, width, height = face.box
    scale = _TURNED_SIZE / (2 * max(width, height))  # twice the face's size
    centre = np.array([x + width / 2, y + height / 2])
    matrix = np.hstack([np.eye(2) * scale, (_TURNED_SIZE / 2 - scale * centre)[:, None]])
    around = import_cv2().warpAffine(image, matrix, (_TURNED_SIZE, _TURNED_SIZE), borderMode=1)  # 1: replicated border
    found = [detector(np.ascontiguousarray(np.rot90(around, quarters))) for quarters in range(4)]
    scores = [max((face.score for face in faces), default=0.0) for faces in found]
    return 90 * scores.index(max(scores))  # upright if scores are equal


def _doubt(faces: list[np.ndarray]) -> str:
    doubtful = any(eye_contrast(face) <= 0 for face in faces)
    return "aligned, but the eye positions are not darker than their surroundings" if doubtful else ""
