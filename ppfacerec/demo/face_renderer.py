"""Drawings of faces that do not exist: a small parametric renderer (NumPy and OpenCV).

An identity is a set of parameters (`draw_identity`), an image adds the conditions it was "taken" under
(`draw_conditions`), and `render` draws both as a 112x112 RGB image: polygons on a `Head`, filled from back to front.
"""

import numpy as np

from ppfacerec.demo.face_canvas import SIZE, ZOOM, Canvas, ellipse, round_off
from ppfacerec.demo.face_head import Head
from ppfacerec.demo.face_parameters import Conditions, Identity
from ppfacerec.demo.face_photo import developed, lit

GREY = np.array([205, 205, 208], np.float32)
BLACK = np.zeros(3, np.float32)


def render(identity: Identity, conditions: Conditions) -> np.ndarray:
    """Draw one face.

    Returns:
        uint8 array [112, 112, 3], RGB.
    """
    return Painter(identity, conditions).picture()


class Painter(Canvas):
    """Draws one identity under one set of conditions."""

    def __init__(self, identity: Identity, conditions: Conditions) -> None:
        super().__init__()
        self.face, self.now, self.s = identity, conditions, identity.shape
        self.head = Head(identity, conditions)
        self.rng = np.random.default_rng(conditions.texture_seed)
        self.strands: np.ndarray | float = 0.0  # where hair is
        grey = max(0.0, conditions.age - 0.4) * 1.4
        self.hair = identity.hair + (GREY - identity.hair) * np.float32(min(grey, 0.9))

    def picture(self) -> np.ndarray:
        self._background()
        self._head()
        self._skin_details()
        self._nose()
        for side in (-1, 1):
            self._eye(side)
        self._mouth()
        self._beard()
        self.clip = None
        self._fringe()
        self._glasses()
        self.image = lit(self.image, self.now, self.box, self.person, self.strands, self.rng)
        self._occlusion()
        return developed(self.image, self.now, self.face.skin, self.rng)

    def _background(self) -> None:
        ramp = np.linspace(0, 1, SIZE * ZOOM, dtype=np.float32)
        ramp = ramp[:, None] if self.rng.random() < 0.5 else ramp[None, :]
        one, two = self.now.background
        self.image[:] = one + (two - one) * ramp[..., None]
        for _ in range(self.rng.integers(0, 6)):
            (x, y), (a, b) = self.rng.uniform(0, SIZE, 2), self.rng.uniform(8, 40, 2)
            self.paint(ellipse(x, y, a, b), self.rng.uniform(0, 255, 3).astype(np.float32), 0.8, soft=2)

    def _head(self) -> None:
        s, skin = self.s, self.face.skin
        cloud, angle = self.head.cloud()
        jaw = np.interp(30, self.head.heights, self.head.widths)
        volume = 0 if self.face.bald else 4 + 3.5 * s["hair_volume"] + 2 * s["curl"]
        head = round_off(self.head.hull(cloud))
        layers: list[tuple[np.ndarray, np.ndarray]] = []  # polygon and colour
        if not self.face.bald and s["hair_length"] > -0.2:  # long hair falls behind the neck
            drop = np.array([[x, y, z] for x in (-1, 1) for y in (-20, 25 + 70 * s["hair_length"]) for z in (-4, -34)])
            drop[:, 0] *= self.head.widths.max() + volume + 2 + 4 * s["hair_volume"]
            layers.append((round_off(self.head.hull(drop)), self.hair * 0.8))
        neck = np.array([[-0.68 * jaw, 30, 5], [0.68 * jaw, 30, 5], [0.8 * jaw, 120, -5], [-0.8 * jaw, 120, -5]])
        layers.append((self.head.project(neck), skin * 0.82))
        layers += [(self._ear(side), skin * 0.92) for side in (-1, 1)]
        layers.append((head, skin))
        if not self.face.bald:
            shell, _ = self.head.cloud(volume)
            rim = np.interp(angle, [0, 0.9, 1.3, 1.6, 2.6], [self.head.hairline, self.head.hairline + 4, 0, 6, 36])
            cap = round_off(self.head.hull(shell[cloud[:, 1] < rim]))
            cap = cap + self._frizz(cap)
            front = round_off(self.head.hull(cloud[(angle < 1.25) & (cloud[:, 1] > rim - 2)]))
            layers += [(cap, self.hair), (front, skin)]
            self.strands = self.mask(cap) * (1 - self.mask(front))
            if abs(self.now.yaw) > 0.25:  # the near ear is in front of the hair
                layers.append((self._ear(-1 if self.now.yaw > 0 else 1), skin * 0.95))
        for polygon, colour in layers:
            self.paint(polygon, colour)
        self.person = self.mask(*(polygon for polygon, _ in layers))
        self.clip, self.box = self.mask(head), head

    def _ear(self, side: int) -> np.ndarray:
        width = np.interp(8, self.head.heights, self.head.widths)
        size = 1 + 0.3 * self.s["ears"]
        flat = ellipse(0, 8, 5 * size, 11 * size)
        points = np.column_stack(
            [np.full(20, side * (width + 1)) + side * flat[:, 0] * 0.5, flat[:, 1], -6 - 0.8 * flat[:, 0]]
        )
        return self.head.project(points)

    def _frizz(self, polygon: np.ndarray) -> np.ndarray:
        """Curls: waves along the outline of the hair."""
        curl = max(0.0, self.s["curl"])
        centre = polygon - polygon.mean(0)
        turn = np.arctan2(centre[:, 1], centre[:, 0])
        return centre / np.linalg.norm(centre, axis=1, keepdims=True) * (curl * 2.2 * np.sin(17 * turn))[:, None]

    def _skin_details(self) -> None:
        skin, age = self.face.skin, self.now.age
        dark, red = skin * 0.62, (skin * 0.85 + np.array([50, 0, 5], np.float32)).clip(0, 255)
        for side in (-1, 1):
            self.paint(self.head.on_face(ellipse(side * 23, 24, 8, 6)), red, 0.22, soft=3)
            self.paint(
                self.head.on_face(ellipse(side * self.head.eye_x, 0, self.head.eye_w * 1.3, 7)), dark, 0.25, soft=2.5
            )
        self.paint(self.head.on_face(ellipse(0, self.head.mouth_y + 10, 9, 2.2)), dark, 0.3, soft=1.5)
        for x, y, radius in self.face.marks:
            self.paint(self.head.on_face(ellipse(x, y, radius, radius)), skin * 0.42, 0.85)
        if age > 0.45:
            depth = (age - 0.45) * 1.1
            x = np.linspace(-1, 1, 9)
            lines = [np.column_stack([22 * x, y + 1.5 * x**2]) for y in (-30, -25, -20) if y > self.head.hairline + 4]
            for side in (-1, 1):
                lines.append(
                    np.array(
                        [
                            [side * (self.head.nose_w + 2), self.head.nose_y],
                            [side * (self.head.mouth_w + 3), self.head.mouth_y - 3],
                        ]
                    )
                )
                lines.append(np.column_stack([side * self.head.eye_x + 0.8 * self.head.eye_w * x, 8 - 2 * x**2]))
                lines += [
                    np.array([[side * (self.head.eye_x + 10), y / 3], [side * (self.head.eye_x + 16), y]])
                    for y in (-3, 1, 5)
                ]
            for line in lines:
                self.paint(self.head.on_face(line), dark, depth, soft=0.4, line=0.8)

    def _nose(self) -> None:
        skin, y, w, tip = self.face.skin, self.head.nose_y, self.head.nose_w, self.head.nose_tip
        bridge = 3.2 + 0.25 * w
        corners = np.array(
            [[-bridge, -3], [bridge, -3], [w, y + 1], [0.6 * w, y + 4.5], [-0.6 * w, y + 4.5], [-w, y + 1]]
        )
        base = self.head.surface(corners) + np.array([[0, 0, z] for z in (1, 1, 3, 3, 3, 3)])
        top = self.head.surface(np.array([[0.0, -3], [0, y - 8], [0, y], [0, y + 3]])) + np.array(
            [[0, 0, z * tip] for z in (0.2, 0.75, 1, 0.8)]
        )
        outline = round_off(self.head.hull(np.concatenate([base, top])), 1)
        assert self.clip is not None
        self.clip = np.maximum(self.clip, self.mask(outline))
        self.person = np.maximum(self.person, self.clip)
        self.paint(outline, skin, 0.75, soft=0.8)
        for side in (-1, 1):  # the flank away from the light is dark
            flank = np.concatenate([top, base[[3, 2, 1]] if side > 0 else base[[4, 5, 0]]])
            lit = side * self.now.light[0]
            self.paint(
                self.head.project(flank),
                np.minimum(skin * (0.6 if lit < 0.2 else 1.1), 255),
                0.2 + 0.25 * min(1, abs(lit)),
                soft=1,
            )
            wing = self.head.surface(
                np.array([[side * w * 0.95, y - 2.5], [side * w * 1.05, y + 1.5], [side * w * 0.75, y + 4]]), 3
            )
            self.paint(self.head.project(wing), skin * 0.5, 0.6, soft=0.4, line=0.9)
            hole = self.head.surface(ellipse(side * 0.45 * w, y + 3.2, 0.22 * w, 1.2), 6)
            self.paint(self.head.project(hole), skin * 0.28, 0.85, soft=0.3)
        self.paint(self.head.project(top[1:3]), (skin * 1.25).clip(0, 255), 0.4, soft=1, line=2)

    def _eye(self, side: int) -> None:
        s, now, skin = self.s, self.now, self.face.skin
        t = np.linspace(-1, 1, 11)
        tilt = -2.4 * s["eye_tilt"] * t
        upper = -self.head.eye_h * now.eye_open * (1 - np.abs(t) ** 2.2) + tilt
        lower = 0.55 * self.head.eye_h * (1 - t**2) + tilt
        x = side * (self.head.eye_x + self.head.eye_w * t)
        almond = np.concatenate([np.column_stack([x, upper]), np.column_stack([x, lower])[::-1]])
        outside, seen = self.clip, self.head.on_face(almond)
        assert outside is not None
        self.paint(seen, np.array([240, 238, 234], np.float32))
        self.clip = outside * self.mask(seen)
        iris_x = side * self.head.eye_x + now.gaze[0]
        iris_y = -0.3 * self.head.eye_h * now.eye_open + now.gaze[1]
        for radius, colour in ((4.3, self.face.iris * 0.5), (3.7, self.face.iris), (1.8, BLACK + 10)):
            self.paint(self.head.on_face(ellipse(iris_x, iris_y, radius, radius)), colour)
        self.paint(self.head.on_face(ellipse(iris_x - 1.3, iris_y - 1.4, 0.9, 0.9)), BLACK + 255)
        self.clip = outside
        self.paint(self.head.on_face(np.column_stack([x, upper])), np.minimum(self.hair, skin) * 0.35, 0.9, line=1.2)
        self.paint(self.head.on_face(np.column_stack([x, lower])), skin * 0.5, 0.5, line=0.6)
        self.paint(self.head.on_face(np.column_stack([x, upper - 2.6])), skin * 0.55, 0.5, soft=0.4, line=0.7)
        arch = -(1.2 + 2 * (1 + s["brow_arch"])) * (1 - t**2) - 4 * s["brow_angle"] * t
        brow_y = -10 - 3 * s["brow_height"] - 1.8 * now.brow_raise + arch
        thick = (1.5 + 1.2 * s["brow_thickness"]) * (1 - 0.35 * t)
        bx = side * (self.head.eye_x + 1 + 1.25 * self.head.eye_w * t)
        brow = np.concatenate([np.column_stack([bx, brow_y - thick]), np.column_stack([bx, brow_y + thick])[::-1]])
        self.paint(self.head.on_face(brow), self.hair * 0.75, 0.8 + 0.2 * s["brow_darkness"], soft=0.4)

    def _mouth(self) -> None:
        s, now, lips = self.s, self.now, self.face.lips
        t = np.linspace(-1, 1, 15)
        x, corner = self.head.mouth_w * t, self.head.mouth_y - 4 * now.smile * t**2
        gap = 8 * now.mouth_open * (1 - t**2)
        bow = (1 - np.abs(t) ** 1.6) * (1 - 0.3 * np.exp(-((t / 0.18) ** 2)))
        upper = corner - 0.3 * gap - (3.0 + 1.9 * s["upper_lip"]) * bow
        lower = corner + gap + (4.0 + 2.4 * s["lower_lip"]) * (1 - t**2)
        ring = [np.column_stack([x, y]) for y in (upper, corner - 0.3 * gap, corner + gap, lower)]
        self.paint(self.head.on_face(np.concatenate([ring[0], ring[1][::-1]])), lips * 0.88)
        self.paint(self.head.on_face(np.concatenate([ring[2], ring[3][::-1]])), lips)
        self.paint(self.head.on_face(ring[3] - [0, 1.5])[5:10], (lips * 1.2).clip(0, 255), 0.4, soft=0.7, line=1.2)
        if now.mouth_open > 0.08:
            self.paint(self.head.on_face(np.concatenate([ring[1], ring[2][::-1]])), np.array([60, 18, 22], np.float32))
            teeth = np.concatenate([ring[1][2:-2], (ring[1] + [0, 1] * np.minimum(gap, 3.2)[:, None])[2:-2][::-1]])
            self.paint(self.head.on_face(teeth), np.array([242, 238, 228], np.float32))
        else:
            self.paint(self.head.on_face(ring[1]), lips * 0.4, 0.9, line=1.0)

    def _beard(self) -> None:
        kind, y = self.face.beard, self.head.mouth_y
        if not kind:
            return
        t = np.linspace(-1, 1, 15)
        moustache = np.concatenate([
            np.column_stack([(self.head.mouth_w + 2) * t, y - 4.5 - 4.5 * (1 - t**2)]),
            np.column_stack([(self.head.mouth_w + 3) * t, y - 1 - 2.5 * (1 - t**2)])[::-1],
        ])  # fmt: skip
        parts = [] if kind == "stubble" else [moustache]
        if kind == "goatee":
            parts.append(ellipse(0, y + 17, 9.5, 9))
        if kind in ("full", "stubble"):
            heights = np.linspace(8, self.head.heights[-1], 15)
            edge = np.interp(heights, self.head.heights, self.head.widths)
            inner = np.interp(heights, [8, 22, y - 6, y + 5, y + 8, 200], [0.93, 0.86, 0.55, 0.5, 0, 0])
            for side in (-1, 1):
                parts.append(
                    np.concatenate(
                        [np.column_stack([side * edge, heights]), np.column_stack([side * edge * inner, heights])[::-1]]
                    )
                )
        for part in parts:
            self.paint(self.head.on_face(part), self.hair * 0.85, 0.35 if kind == "stubble" else 0.92, soft=0.8)

    def _fringe(self) -> None:
        if self.face.bald or self.s["fringe"] < -0.3:
            return
        x = np.linspace(-1, 1, 21)
        reach = (8 + 10 * self.s["fringe"]) * (0.35 + 0.65 * np.abs(x - 0.7 * self.s["parting"]) ** 0.7)
        width = 0.93 * np.interp(self.head.hairline, self.head.heights, self.head.widths)
        top = np.column_stack([width * x, np.full(21, self.head.hairline - 6.0)])
        bottom = np.column_stack([width * x, self.head.hairline + reach * (1 - 0.4 * x**6)])
        self.paint(self.head.on_face(np.concatenate([top, bottom[::-1]]), 2), self.hair * 0.93, soft=0.4)

    def _glasses(self) -> None:
        if not self.face.glasses:
            return
        frame = self.face.hair * 0.4
        for side in (-1, 1):
            if self.face.glasses == "round":
                rim = ellipse(side * self.head.eye_x, 1, 12, 10.5)
            else:
                rim = np.array([[-13, -7.5], [13, -8], [11.5, 9], [-11, 9]]) * [side, 1] + [side * self.head.eye_x, 0]
                rim = round_off(rim, 1)
            seen = self.head.on_face(np.concatenate([rim, rim[:1]]), 5)
            self.paint(seen, np.array([225, 235, 240], np.float32), 0.12)
            self.paint(seen, frame, 0.95, line=1.6)
            temple = np.array([[side * (self.head.eye_x + 12), -3], [side * self.head.widths.max() * 0.99, 0]])
            self.paint(self.head.on_face(temple, 2), frame, 0.95, line=1.6)
        self.paint(
            self.head.on_face(np.array([[-self.head.eye_x + 12, -1], [0, -3], [self.head.eye_x - 12, -1]]), 6),
            frame,
            0.95,
            line=1.4,
        )

    def _occlusion(self) -> None:
        colour = self.rng.uniform(20, 235, 3).astype(np.float32)
        if self.now.occlusion == "cap":
            cloud, angle = self.head.cloud(7)
            self.paint(round_off(self.head.hull(cloud[cloud[:, 1] < np.interp(angle, [0, 2], [-26, -12])])), colour)
            x = np.linspace(-1, 1, 11)
            peak = np.column_stack([38 * x, -22 - 6 * x**2, 30 + 22 * (1 - x**2)])
            band = np.column_stack([38 * x, -30 - 2 * x**2, 30 + 8 * (1 - x**2)])
            self.paint(self.head.project(np.concatenate([band, peak[::-1]])), colour * 0.7)
        elif self.now.occlusion == "scarf":
            x = np.linspace(-70, 70, 9)
            edge = self.head.mouth_y + self.rng.uniform(-14, 12) + self.rng.normal(0, 1.5, 9)
            sheet = np.concatenate([np.column_stack([x, edge, np.full(9, 30)]), [[70, 150, 30], [-70, 150, 30]]])
            self.paint(self.head.project(sheet), colour)
        elif self.now.occlusion == "hand":
            knuckle, turn = self.rng.uniform([15, 45], [97, 100]), self.rng.uniform(0, np.pi)
            along, across = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
            for finger in range(4):
                middle = knuckle + finger * 5.5 * across
                self.paint(np.stack([middle - 12 * along, middle + 12 * along]), self.face.skin * 0.85, line=5)
