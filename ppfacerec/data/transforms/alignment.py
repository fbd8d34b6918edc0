"""Alignment of faces by five landmarks, and a check whether a face looks aligned."""

import numpy as np

from ppfacerec.core.image_size import IMAGE_SIZE
from ppfacerec.core.opencv import import_cv2

# Positions of the five landmarks in 112 x 112 (insightface's arcface_dst; Deng et al., arXiv:1801.07698).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)
_BETTER_TURNED = 0.2  # 1.9 % of LFW's faces are then below 0 and 87 % of those upside down; at 0.4: 1.0 % and 76 %
_MOST_RESIDUAL = 21.0  # pixels of 112: a full profile has 20, five random points mostly have more


def similarity_transform(points: np.ndarray, target: np.ndarray = TEMPLATE) -> np.ndarray:
    """Return the 2 x 3 matrix of the least-squares rotation, scale and shift from `points` (5, 2) to `target`.

    Umeyama, Least-squares estimation of transformation parameters between two point patterns, PAMI 13(4), 1991, eqs.
    40 to 42.

    Raises:
        ValueError: all points are at one position.
    """
    points = np.asarray(points, np.float64)
    mean, target_mean = points.mean(axis=0), target.mean(axis=0)
    centred, target_centred = points - mean, target - target_mean
    variance = (centred**2).sum() / len(points)
    if not variance > 0 or not np.isfinite(variance):
        raise ValueError("all five landmarks are at the same point")
    left, singular, right = np.linalg.svd(target_centred.T @ centred / len(points))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])  # no mirror image
    rotation = left @ np.diag(signs) @ right
    scale = (singular * signs).sum() / variance
    return np.hstack([scale * rotation, (target_mean - scale * rotation @ mean)[:, None]])


def align(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the aligned face (112, 112, 3) of an image (H, W, 3) with landmarks `points` (5, 2) in pixels.

    Raises:
        ValueError: the landmarks are not those of a face.
    """
    matrix = similarity_transform(points)
    placed = np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]
    residual = float(np.abs(placed - TEMPLATE).max())
    if residual > _MOST_RESIDUAL:
        raise ValueError(f"its landmarks are not those of a face: aligned, one is {residual:.0f} pixels out of place")
    return import_cv2().warpAffine(image, matrix, (IMAGE_SIZE, IMAGE_SIZE), flags=1, borderValue=0)  # 1: bilinear


def eye_contrast(image: np.ndarray) -> float:
    """Return how much darker the eye positions are than the cheeks and the nose bridge, in standard deviations.

    It is above 0 for an `image` (H, W, 3), uint8 RGB, of an aligned face. It is below 0 also if the contrast is clearly
    higher upside down: in an upside-down face, a dark mouth or beard is at the eye positions.
    """
    cv2 = import_cv2()
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
    contrast = _eye_contrast(grey)
    return min(contrast, contrast - _eye_contrast(grey[::-1, ::-1]) + _BETTER_TURNED)


def _eye_contrast(grey: np.ndarray) -> float:
    (left, y), (right, _) = TEMPLATE[0], TEMPLATE[1]
    eyes = [_patch(grey, left, y), _patch(grey, right, y)]
    around = [_patch(grey, left, y + 20), _patch(grey, right, y + 20), _patch(grey, (left + right) / 2, y)]
    return (float(np.mean(around)) - float(np.mean(eyes))) / max(float(grey.std()), 1.0)


def _patch(grey: np.ndarray, x: float, y: float) -> float:
    return float(grey[round(y) - 5 : round(y) + 6, round(x) - 8 : round(x) + 9].mean())
