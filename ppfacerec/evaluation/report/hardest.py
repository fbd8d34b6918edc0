"""The hardest pairs: most similar ones of different people, least similar ones of one person."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppfacerec.core.opencv import import_cv2
from ppfacerec.data.pairs.pair_set import PairSet
from ppfacerec.data.transforms.images import decode_rgb, resize_short_side
from ppfacerec.metrics import VerificationResult

NUM_HARDEST = 12


@dataclass(frozen=True)
class HardPair:
    """One pair; `images` are data URIs of left and right, None without images."""

    pair: int
    distance: float
    is_error: bool  # on the wrong side of the set's threshold
    names: tuple[str, str] | None  # identities of left and right, if known
    images: tuple[str, str] | None

    @property
    def cosine(self) -> float:
        return 1 - self.distance / 2

    def to_json(self) -> dict[str, Any]:
        names = {} if self.names is None else {"names": list(self.names)}
        return {"pair": self.pair, "distance": self.distance, "cosine": self.cosine, "is_error": self.is_error, **names}


def hardest_pairs(
    result: VerificationResult, pairs: PairSet | None, is_same: bool, count: int = NUM_HARDEST, faces: bool = True
) -> list[HardPair]:
    """Return the hardest pairs of one kind, worst first; `pairs` is the set, for images and names.

    With `is_same` pairs of one person with the largest distances, else pairs of two with the smallest.
    """
    found, wrong = [], errors(result)
    for pair in hardest(result, is_same)[:count].tolist():
        names = images = None
        if pairs is not None:
            left, right = pairs.index[2 * pair : 2 * pair + 2].tolist()
            images = (_thumbnail_uri(pairs, left), _thumbnail_uri(pairs, right)) if faces else None
            names = None if pairs.identities is None else (pairs.identities[left], pairs.identities[right])
        found.append(HardPair(pair, float(result.distances[pair]), bool(wrong[pair]), names, images))
    return found


def hardest(result: VerificationResult, is_same: bool) -> np.ndarray:
    """Return the numbers of all pairs of one kind, worst first."""
    chosen = np.flatnonzero(result.is_same == is_same)
    return chosen[np.argsort(-result.distances[chosen] if is_same else result.distances[chosen], kind="stable")]


def errors(result: VerificationResult) -> np.ndarray:
    """Return a mask (N,) of the pairs on the wrong side of the set's threshold."""
    return (result.distances < result.threshold) != result.is_same


def thumbnail(pairs: PairSet, image: int) -> np.ndarray:
    """Return an image of the set as (112, 112, 3), uint8 RGB."""
    return resize_short_side(decode_rgb(pairs.read(image), pairs.where(image)))


def _thumbnail_uri(pairs: PairSet, image: int) -> str:
    """Return a 112 x 112 JPEG, encoded again so that only pixels of the set's file get into the page."""
    pixels, cv2 = thumbnail(pairs, image), import_cv2()
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return data_uri(encoded.tobytes(), "image/jpeg")


def data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
