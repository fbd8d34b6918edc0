"""What faces are drawn on: a picture that polygons are painted onto, with soft edges and within a clip."""

import numpy as np

from ppfacerec.core.opencv import import_cv2

SIZE = 112  # pixels of a side
ZOOM = 2  # drawn at twice the size, then shrunk


def round_off(points: np.ndarray, rounds: int = 2) -> np.ndarray:
    """Chaikin's corner cutting of a closed polygon (N, D)."""
    for _ in range(rounds):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1).reshape(
            -1, points.shape[1]
        )
    return points


def ellipse(x: float, y: float, a: float, b: float) -> np.ndarray:
    """Polygon (20, 2) of an ellipse with half axes a and b."""
    t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    return np.stack([x + a * np.cos(t), y + b * np.sin(t)], axis=1)


class Canvas:
    """An RGB picture, `ZOOM` times the final size, and a brush. Coordinates are pixels of the final picture."""

    def __init__(self) -> None:
        self.cv2 = import_cv2()
        self.image = np.empty((SIZE * ZOOM, SIZE * ZOOM, 3), np.uint8)
        self.clip: np.ndarray | None = None  # painting is limited to this mask, float32 0 .. 1

    def mask(self, *polygons: np.ndarray) -> np.ndarray:
        """Where the polygons are: float32 (SIZE * ZOOM, SIZE * ZOOM), 0 .. 1."""
        mask = np.zeros(self.image.shape[:2], np.uint8)
        for polygon in polygons:
            self.cv2.fillPoly(mask, [np.round(polygon * (ZOOM * 16)).astype(np.int32)], 255, self.cv2.LINE_AA, 4)
        return mask.astype(np.float32) / 255

    def paint(
        self, polygon: np.ndarray, colour: np.ndarray, alpha: float = 1.0, soft: float = 0.0, line: float = 0.0
    ) -> None:
        """Fill a polygon (N, 2), or stroke it as an open line of width `line`; `soft` blurs the edge (pixels)."""
        cv2, pad = self.cv2, int(ZOOM * (3 * soft + line)) + 3
        polygon = polygon * ZOOM
        if alpha == 1.0 and not soft and not line and self.clip is None:  # the large areas: no need to blend
            cv2.fillPoly(self.image, [np.round(polygon * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, 4)
            return
        low = np.maximum(np.floor(polygon.min(0)).astype(int) - pad, 0)
        high = np.minimum(np.ceil(polygon.max(0)).astype(int) + pad, SIZE * ZOOM)
        if (low >= high).any():
            return  # outside the crop
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        corners = [np.round((polygon - low) * 16).astype(np.int32)]
        if line:
            cv2.polylines(mask, corners, False, 255, max(1, round(line * ZOOM)), cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(mask, corners, 255, cv2.LINE_AA, 4)
        if soft:
            box = (int(2 * soft * ZOOM) | 1,) * 2
            mask = cv2.blur(cv2.blur(mask, box), box)
        where = slice(low[1], high[1]), slice(low[0], high[0])
        weight = mask * np.float32(alpha / 255)
        if self.clip is not None:
            weight *= self.clip[where]
        below = self.image[where].astype(np.float32)
        self.image[where] = below + (colour - below) * weight[..., None]
