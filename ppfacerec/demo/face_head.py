"""The 2.5D head: where the parts of a drawn face are, in space and in the picture.

The origin is between the eyes, x goes to the viewer's right, y down, z towards the viewer; the unit is one pixel of a
frontal crop. Points are turned by yaw and pitch, seen in weak perspective and fitted to ArcFace's five landmarks by a
similarity, so a profile comes out stretched, as in real crops.
"""

import numpy as np

from ppfacerec.core.opencv import import_cv2
from ppfacerec.demo.face_parameters import Conditions, Identity

# Eyes, nose tip and mouth corners in ArcFace's 112x112 crops (x, y)
TEMPLATE = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])

# Half width, front depth and back depth of an average head at heights from the crown to the chin.
HEIGHTS = np.array([-68, -64, -52, -34, -14, 4, 24, 42, 54, 61, 65], np.float64)
WIDTHS = np.array([4, 16, 31, 40, 43, 42.5, 40, 33, 24, 14, 4], np.float64)
FRONTS = np.array([0, 8, 24, 36, 38, 36, 38, 40, 40, 37, 32], np.float64)
BACKS = np.array([4, 22, 42, 54, 58, 56, 48, 30, 14, 6, 2], np.float64)


class Head:
    """A head of this identity, with this pose, age and expression."""

    def __init__(self, identity: Identity, conditions: Conditions) -> None:
        self.s, self.now = identity.shape, conditions
        (cy, cp), (sy, sp) = (f([conditions.yaw, conditions.pitch]) for f in (np.cos, np.sin))
        self.rotation = np.array([[cy, 0, sy], [-sp * sy, cp, sp * cy], [-cp * sy, -sp, cp * cy]])
        self._measure()
        self._align()

    def _measure(self) -> None:
        """Sizes of this head from the identity, the expression and the age."""
        s, now = self.s, self.now
        shares = np.interp(HEIGHTS, [-68, -30, 5, 42, 58, 65], [0, 0.0, 0, 1, 1, 1])  # 0 skull .. 1 jaw
        jaw = 1 + 0.25 * s["jaw"] + 0.05 * now.age
        self.widths = WIDTHS * (1 + 0.11 * s["face_width"]) * (1 + shares * (jaw - 1))
        stretch = np.where(HEIGHTS > 0, 1 + 0.1 * s["chin"], 1 + 0.08 * s["forehead"])
        self.heights = HEIGHTS * stretch + np.where(HEIGHTS > 45, 4 * now.mouth_open, 0)
        self.eye_x = 17.6 * (1 + 0.19 * s["eye_distance"])
        self.eye_w, self.eye_h = 8.2 * (1 + 0.26 * s["eye_width"]), 3.7 * (1 + 0.42 * s["eye_height"])
        self.nose_y, self.nose_w = 20.5 + 4.5 * s["nose_length"], 7.5 * (1 + 0.38 * s["nose_width"])
        self.nose_tip = 13 * (1 + 0.3 * s["nose_depth"])  # above the face
        self.mouth_y = 39.5 + 3.0 * s["mouth_height"]
        self.mouth_w = 14.0 * (1 + 0.27 * s["mouth_width"] + 0.12 * now.smile)
        self.hairline = -36 + 10 * s["hairline"] - 8 * now.age

    def surface(self, xy: np.ndarray, out: float = 0.0) -> np.ndarray:
        """Points (N, 2) of the front lifted onto the face, `out` units above it: (N, 3)."""
        points = np.empty((len(xy), 3))
        points[:, :2] = xy
        width = np.interp(points[:, 1], self.heights, self.widths)
        depth = np.interp(points[:, 1], self.heights, FRONTS)
        points[:, 2] = depth * np.sqrt(np.maximum(0.02, 1 - (points[:, 0] / width) ** 2)) + out
        return points

    def cloud(self, grow: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, 3) all over the head, `grow` units outside it, and their angle from the front (N,)."""
        angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        heights = np.linspace(self.heights[0], self.heights[-1], 28)
        width, front, back = (np.interp(heights, self.heights, v) + grow for v in (self.widths, FRONTS, BACKS))
        depth = np.where(np.cos(angle) > 0, front[:, None], back[:, None])
        tall = heights - grow * (heights < -20) * (-heights - 20) / 48
        points = np.stack(
            [width[:, None] * np.sin(angle), np.broadcast_to(tall[:, None], depth.shape), depth * np.cos(angle)], -1
        )
        return points.reshape(-1, 3), np.tile(np.abs((angle + np.pi) % (2 * np.pi) - np.pi), len(heights))

    def _turn(self, points: np.ndarray) -> np.ndarray:
        """Rotate (N, 3) by yaw and pitch and see it in weak perspective: complex numbers (N,), x + iy."""
        x, y, z = self.rotation @ points.T
        return (x + 1j * y) * (420 / (420 - z))

    def _align(self) -> None:
        """Fit the five landmarks to the template by least squares over similarities (complex numbers)."""
        corner = self.mouth_y - 2.5 * self.now.smile
        flat = np.array(
            [[-self.eye_x, 0], [self.eye_x, 0], [0, self.nose_y], [-self.mouth_w, corner], [self.mouth_w, corner]]
        )
        landmarks = self.surface(flat)
        landmarks[2, 2] += self.nose_tip
        source, target = self._turn(landmarks), (TEMPLATE + self.now.misalignment) @ [1, 1j]
        centred = source - source.mean()
        self.spin = (centred.conj() @ (target - target.mean())) / (centred.conj() @ centred)
        self.shift = target.mean() - self.spin * source.mean()

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) of the head to pixels (N, 2) of the crop."""
        return (self.spin * self._turn(points) + self.shift).view(np.float64).reshape(-1, 2)

    def on_face(self, xy: np.ndarray, out: float = 0.0) -> np.ndarray:
        return self.project(self.surface(np.asarray(xy, np.float64), out))

    def hull(self, points: np.ndarray) -> np.ndarray:
        return import_cv2().convexHull(self.project(points).astype(np.float32))[:, 0]
