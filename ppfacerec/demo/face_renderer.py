"""Renderer of synthetic faces: polygons on a rotated head, painted from back to front (NumPy and OpenCV)."""

import numpy as np

from ppfacerec.core.image_size import IMAGE_SIZE
from ppfacerec.core.opencv import import_cv2

SIZE, ZOOM = IMAGE_SIZE, 2  # side in pixels; factor of supersampling
TEMPLATE = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])  # ArcFace's landmarks
# Half width and depth of an average head at heights from the crown to the chin
HEIGHTS = np.array([-68, -64, -52, -34, -14, 4, 24, 42, 54, 61, 65], np.float64)
WIDTHS = np.array([4, 16, 31, 40, 43, 42.5, 40, 33, 24, 14, 4])
DEPTHS = np.array([0, 8, 24, 36, 38, 36, 38, 40, 40, 37, 32])
SKIN = [[250, 220, 200], [238, 196, 165], [214, 165, 125], [170, 118, 82], [120, 78, 54], [84, 54, 40]]
HAIR = [[28, 22, 22], [62, 40, 28], [112, 72, 42], [160, 120, 70], [214, 180, 120], [150, 64, 32]]
IRIS = [[58, 36, 22], [98, 64, 34], [92, 110, 62], [72, 118, 160], [110, 124, 132]]
# fmt: off
SHAPES = (
    "face_width", "jaw", "chin", "eye_distance", "eye_width", "eye_height", "eye_tilt", "brow_thickness", "brow_height",
    "brow_angle", "nose_length", "nose_width", "nose_depth", "mouth_height", "mouth_width", "lips", "hairline",
    "hair_volume", "fringe", "parting",
)
# fmt: on


class Identity:
    """A synthetic person: shapes in -1 .. 1, colours RGB in 0 .. 255."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.shape = {name: rng.uniform(-1, 1) for name in SHAPES}
        self.skin, self.hair, self.iris = (rng.choice(i) + rng.uniform(-6, 6, 3) for i in (SKIN, HAIR, IRIS))
        self.lips = self.skin * 0.72 + np.array([62, 8, 14]) * rng.uniform(0.4, 1.4)
        self.bald, self.beard = rng.random(2) < [0.1, 0.25]
        self.glasses = rng.choice([0, 4, 20], p=[0.7, 0.15, 0.15])  # corners of a rim
        self.moles = rng.uniform([-26, -26, 1], [26, 52, 1.9], (rng.integers(0, 4), 3))  # x, y, radius


class Conditions:
    """Conditions of an image, which must not change the identity.

    Args:
        yaw, age: ranges of the head's rotation in degrees (the side is drawn too), and of the age, within 0 .. 1.
        d: difficulty, the factor of everything else, 0 .. 1.
    """

    def __init__(self, rng: np.random.Generator, yaw: tuple[float, float], age: tuple[float, float], d: float) -> None:
        self.yaw = np.radians(rng.uniform(*yaw)) * rng.choice([-1, 1])
        self.pitch, self.age = np.radians(rng.normal(0, 9 * d)).clip(-0.4, 0.4), rng.uniform(*age)
        self.smile, self.mouth_open = rng.uniform(-0.6, 1) * d, max(0.0, rng.normal(-0.2, 0.5)) * d
        self.eye_open = 1 - max(0.0, rng.normal(0, 0.3)) * d
        self.light = np.array([rng.normal(0, 1.1 * d), rng.normal(-0.35, 0.5 * d), 1])
        self.ambient = rng.uniform(0.75 - 0.5 * d, 0.8)  # share of ambient light
        self.tint = np.exp(rng.normal(0, 0.11 * d, 3) + rng.uniform(-0.55, 0.4) * d)
        self.contrast, self.grey = np.exp(rng.normal(0, 0.18 * d)), rng.random() < 0.08 * d
        self.colours = rng.uniform(0, 255, (8, 3))  # of background, spots and occlusion
        self.spots = rng.integers(0, SIZE * ZOOM, (rng.integers(0, 5), 2))
        self.occlusion = rng.choice(["cap", "scarf"]) if rng.random() < 0.15 * d else ""
        self.blur, self.noise = rng.uniform(0, 1.3 * d), rng.uniform(0, 10 * d)  # sigmas: pixels, grey levels
        self.misalignment = rng.normal(0, 1.1 * d, (5, 2)) + rng.normal(0, 1.2 * d, 2)  # of landmarks, pixels
        self.jpeg_quality = int(rng.uniform(95 - 45 * d, 95))
        self.grain = rng.standard_normal((SIZE, SIZE, 3), np.float32)  # the noise


class Face:
    """Geometry and appearance of a face.

    The origin is between the eyes, x goes to the viewer's right, y down, z towards the viewer; the unit is a pixel of a
    frontal crop. Points are rotated, projected in weak perspective and fitted to ArcFace's five landmarks by a
    similarity transform, so that a profile is stretched, as in real crops.
    """

    def __init__(self, who: Identity, now: Conditions) -> None:
        self.who, self.now, s = who, now, who.shape
        grey = min(max(0.0, now.age - 0.4) * 1.4, 0.9)
        self.hair = who.hair * (1 - grey) + 205 * grey
        (cy, cp), (sy, sp) = (f([now.yaw, now.pitch]) for f in (np.cos, np.sin))
        self.rotation = np.array([[cy, 0, sy], [-sp * sy, cp, sp * cy], [-cp * sy, -sp, cp * cy]])
        jaw = np.interp(HEIGHTS, [0, 42], [0, 0.25 * s["jaw"] + 0.05 * now.age])
        self.widths = WIDTHS * (1 + 0.11 * s["face_width"]) * (1 + jaw)
        self.heights = HEIGHTS * np.where(HEIGHTS > 0, 1 + 0.1 * s["chin"], 1)
        self.hairline, self.eye_x = -36 + 10 * s["hairline"] - 8 * now.age, 17.6 * (1 + 0.19 * s["eye_distance"])
        self.nose_y, self.mouth_y = 20.5 + 4.5 * s["nose_length"], 39.5 + 3 * s["mouth_height"]
        self.mouth_w = 14 * (1 + 0.27 * s["mouth_width"] + 0.12 * now.smile)
        x, y = self.mouth_w, self.mouth_y - 2.5 * now.smile
        marks = self.surface([[-self.eye_x, 0], [self.eye_x, 0], [0, self.nose_y], [-x, y], [x, y]])
        marks[2, 2] += 13 * (1 + 0.3 * s["nose_depth"])
        self.nose_tip, self.spin, self.shift = marks[2], 1 + 0j, 0j
        source, target = self.project(marks) @ [1, 1j], (TEMPLATE + now.misalignment) @ [1, 1j]
        centred = source - source.mean()
        self.spin = (centred.conj() @ target) / (centred.conj() @ centred)  # least squares
        self.shift = target.mean() - self.spin * source.mean()

    def surface(self, xy: object, out: float = 0.0) -> np.ndarray:
        """Lift frontal points (N, 2) onto the face, `out` units above it: (N, 3)."""
        x, y = np.asarray(xy, np.float64).T
        width, depth = (np.interp(y, self.heights, values) for values in (self.widths, DEPTHS))
        return np.column_stack([x, y, depth * np.sqrt(np.maximum(0.02, 1 - (x / width) ** 2)) + out])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points (N, 3) of the head to pixels (N, 2) of the crop."""
        x, y, z = self.rotation @ points.T
        return (self.spin * (x + 1j * y) * (420 / (420 - z)) + self.shift).view(np.float64).reshape(-1, 2)

    def cloud(self, grow: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Return points (N, 3) all over the head, `grow` units outside it, and their angle from the front (N,)."""
        angle, y = np.meshgrid(np.linspace(-np.pi, np.pi, 32), np.linspace(self.heights[0], self.heights[-1], 28))
        width, depth = (np.interp(y, self.heights, values) + grow for values in (self.widths, DEPTHS))
        depth *= np.where(np.abs(angle) > np.pi / 2, 1.5 - 0.6 * (y > 30), 1)
        y = y - grow * (y < -20) * (-y - 20) / 48
        return np.stack([width * np.sin(angle), y, depth * np.cos(angle)], -1).reshape(-1, 3), np.abs(angle.ravel())

    def render(self) -> np.ndarray:
        """Draw the image: uint8 (112, 112, 3), RGB."""
        cv2, now = import_cv2(), self.now
        ramp = np.linspace(0, 1, SIZE * ZOOM)[:, None, None] * (now.colours[1] - now.colours[0]) + now.colours[0]
        self.image = np.repeat(ramp, SIZE * ZOOM, axis=1).astype(np.uint8)
        for colour, (x, y) in zip(now.colours[3:], now.spots):
            cv2.circle(self.image, (x, y), 40, colour.tolist(), -1)
        outline, inside = self._head(), np.zeros(self.image.shape[:2], np.uint8)
        cv2.fillPoly(inside, [np.round(outline * ZOOM).astype(np.int32)], 1)
        behind = self.image.copy()
        self._skin()
        for side in (-1, 1):
            self._eye(side)
        self._mouth()
        cv2.copyTo(behind, 1 - inside, self.image)  # clip the face to the head
        self._nose()
        self._worn()
        image = cv2.resize(self.image, (SIZE, SIZE), interpolation=cv2.INTER_AREA) * self._shade(outline)
        if now.blur > 0.25:
            image = cv2.GaussianBlur(image, (0, 0), now.blur)
        exposure = (150 / self.who.skin.mean()) ** 0.45  # cameras expose for the face
        image = ((image - 120) * now.contrast + 120) * now.tint * exposure
        if now.grey:
            image[:] = image.mean(axis=2, keepdims=True)
        return (image + now.grain * now.noise).clip(0, 255).astype(np.uint8)

    def _paint(self, points: object, colour: np.ndarray, out: float = 0.0, line: float = 0.0) -> np.ndarray:
        """Fill a polygon (N, 2) `out` units above the face, or the hull of points (N, 3), or draw a line; return it."""
        cv2, points, rgb = import_cv2(), np.asarray(points, np.float64), np.clip(colour, 0, 255).tolist()
        seen = self.project(points if points.shape[1] == 3 else self.surface(points, out))
        if points.shape[1] == 3 and not line:
            seen = cv2.convexHull(seen.astype(np.float32))[:, 0]
        corners = [np.round(seen * (ZOOM * 16)).astype(np.int32)]
        if line:
            cv2.polylines(self.image, corners, False, rgb, round(line * ZOOM), cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(self.image, corners, rgb, cv2.LINE_AA, 4)
        return seen

    def _shade(self, outline: np.ndarray) -> np.ndarray:
        """Return Lambertian shading of an ellipsoid at the head: factors (SIZE, SIZE, 1)."""
        middle, radius = (outline.max(0) + outline.min(0)) / 2, np.ptp(outline, axis=0) * 0.56
        x, y = np.meshgrid(*((np.arange(SIZE) - m) / r for m, r in zip(middle, radius)))
        normal = np.stack([x, y, np.sqrt(np.maximum(0.04, 1 - x**2 - y**2))], -1)
        cosine = normal @ self.now.light / np.linalg.norm(normal, axis=-1) / np.linalg.norm(self.now.light)
        return (self.now.ambient + (1.12 - self.now.ambient) * np.maximum(0, cosine))[..., None].astype(np.float32)

    def _head(self) -> np.ndarray:
        """Paint neck, head and hair; return the head's outline in pixels (N, 2)."""
        s, skin, (cloud, angle) = self.who.shape, self.who.skin, self.cloud()
        jaw = 0.7 * np.interp(30, self.heights, self.widths)
        self._paint([[-jaw, 30, 5], [jaw, 30, 5], [jaw, 120, -5], [-jaw, 120, -5]], skin * 0.82)
        outline = self._paint(cloud, skin)
        if self.who.bald:
            return outline
        rim = np.interp(angle, [0, 0.9, 1.3, 1.6, 2.6], [self.hairline, self.hairline + 4, 0, 6, 36])
        self._paint(self.cloud(4 + 3.5 * s["hair_volume"])[0][cloud[:, 1] < rim], self.hair)
        self._paint(cloud[(angle < 1.25) & (cloud[:, 1] > rim - 2)], skin)
        x = np.linspace(-1, 1, 21)
        drop = (8 + 10 * s["fringe"]) * (0.35 + 0.65 * np.abs(x - 0.7 * s["parting"])) * (s["fringe"] > -0.3)
        width = 0.93 * np.interp(self.hairline, self.heights, self.widths)
        self._paint(_band(width * x, self.hairline - 6, self.hairline + drop), self.hair * 0.93, out=2)
        return outline

    def _skin(self) -> None:
        """Paint moles, wrinkles, a beard."""
        t, wrinkled = np.linspace(-1, 1, 15), 1 - 0.7 * max(0.0, self.now.age - 0.45)
        for x, y, radius in self.who.moles:
            self._paint(_ellipse(x, y, radius, radius), self.who.skin * 0.5)
        for y in (-30, -25, -20) if wrinkled < 1 else ():
            self._paint(np.column_stack([22 * t, y + 1.5 * t**2]), self.who.skin * wrinkled, line=0.8)
        if self.who.beard:
            y = np.linspace(8, self.heights[-1], 15)
            edge = np.interp(y, self.heights, self.widths)
            inner = edge * np.interp(y, [8, 22, self.mouth_y + 5, self.mouth_y + 8], [0.93, 0.86, 0.5, 0])
            for side in (-1, 1):
                self._paint(_band(y, side * edge, side * inner)[:, ::-1], self.hair * 0.85)
            curve = self.mouth_y - 5 * (1 - t**2)
            self._paint(_band((self.mouth_w + 3) * t, curve - 5, curve - 1), self.hair * 0.85)

    def _eye(self, side: int) -> None:
        s, skin, t = self.who.shape, self.who.skin, np.linspace(-1, 1, 11)
        height, tilt = 3.7 * (1 + 0.42 * s["eye_height"]), -2.4 * s["eye_tilt"] * t
        x = side * (self.eye_x + 8.2 * (1 + 0.26 * s["eye_width"]) * t)
        lids = tilt - height * self.now.eye_open * (1 - np.abs(t) ** 2.2), tilt + 0.55 * height * (1 - t**2)
        self._paint(_ellipse(side * self.eye_x, -1, 12, 8), skin * 0.9)
        self._paint(_band(x, *lids), np.array([240, 238, 234]))
        for radius, colour in ((4.0, self.who.iris), (1.7, self.who.iris * 0.2)):
            disc = _ellipse(side * self.eye_x, -0.3 * height * self.now.eye_open, radius, radius)
            disc[:, 1] = disc[:, 1].clip(*(np.interp(disc[:, 0] * side, x * side, lid) for lid in lids))
            self._paint(disc, colour)
        self._paint(np.column_stack([x, lids[0]]), np.minimum(self.hair, skin) * 0.35, line=1.2)
        y = -12.5 - 3 * s["brow_height"] + 2 * t**2 - 4 * s["brow_angle"] * t
        thick = (1.5 + 1.2 * s["brow_thickness"]) * (1 - 0.35 * t)
        self._paint(_band(side * (self.eye_x + 1 + 10 * t), y - thick, y + thick), self.hair * 0.75)

    def _mouth(self) -> None:
        lips, t = self.who.shape["lips"], np.linspace(-1, 1, 15)
        x, corner = self.mouth_w * t, self.mouth_y - 4 * self.now.smile * t**2
        gap = corner + 8 * self.now.mouth_open * (1 - t**2)
        bow = (1 - np.abs(t) ** 1.6) * (1 - 0.3 * np.exp(-((t / 0.18) ** 2)))
        self._paint(_band(x, corner - (3 + 1.9 * lips) * bow, gap + (4 + 2.4 * lips) * (1 - t**2)), self.who.lips)
        self._paint(_band(x, corner, gap), np.array([60, 18, 22]))
        self._paint(np.column_stack([x, corner]), self.who.lips * 0.5, line=1.0)

    def _nose(self) -> None:
        skin, y, width = self.who.skin, self.nose_y, 7.5 * (1 + 0.38 * self.who.shape["nose_width"])
        for side in (-1, 1):  # the flank away from the light is dark
            wing = self.surface([[side * 0.6 * width, y + 5], [side * width, y + 2]], 3)
            bridge = self.surface([[side * 4, -3], [0, -3]], 1)
            flank = np.concatenate([bridge, [self.nose_tip, [0, y + 5, 45]], wing])
            self._paint(flank, skin * (0.94 + 0.08 * np.clip(side * self.now.light[0], -1.5, 1)))
            self._paint(wing, skin * 0.6, line=0.9)
            self._paint(_ellipse(side * 0.45 * width, y + 3.2, 0.22 * width, 1.2), skin * 0.35, out=6)

    def _worn(self) -> None:
        """Paint glasses and occlusions."""
        for side in (-1, 1) if self.who.glasses else ():
            rim = _ellipse(side * self.eye_x, 1, 13, 10, self.who.glasses)
            bars = [[0, -2], [side * (self.eye_x - 13), 0]], [[side * (self.eye_x + 13), 0], [side * 42, 0]]
            for line in (np.concatenate([rim, rim[:1]]), *bars):
                self._paint(line, self.who.hair * 0.4, out=4, line=1.6)
        if self.now.occlusion == "cap":
            cloud, angle = self.cloud(7)
            self._paint(cloud[cloud[:, 1] < np.interp(angle, [0, 2], [-22, -12])], self.now.colours[2])
        elif self.now.occlusion == "scarf":
            corners = np.array([[-70, 0, 30], [0, 5, 40], [70, 0, 30], [70, 150, 30], [-70, 150, 30]])
            self._paint(corners + np.array([0, self.mouth_y, 0]), self.now.colours[2])


def _ellipse(x: float, y: float, a: float, b: float, corners: int = 20) -> np.ndarray:
    """Return a polygon (corners, 2) with half axes a and b; with 4 corners, a rectangle."""
    t = np.linspace(0, 2 * np.pi, corners, endpoint=False) + np.pi / corners
    return np.column_stack([x + a * np.cos(t), y + b * np.sin(t)])


def _band(x: np.ndarray, upper: np.ndarray | float, lower: np.ndarray | float) -> np.ndarray:
    """Return the polygon between two curves over the same x."""
    edges = [np.column_stack([x, np.broadcast_to(y, x.shape)]) for y in (upper, lower)]
    return np.concatenate([edges[0], edges[1][::-1]])
