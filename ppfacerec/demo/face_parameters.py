"""Who a drawn face is and how its picture was taken: parameters, drawn from a seed."""

from dataclasses import dataclass

import numpy as np

# Palettes, RGB; a colour is drawn between two neighbours.
SKIN = np.array(
    [[250, 220, 200], [238, 196, 165], [214, 165, 125], [170, 118, 82], [120, 78, 54], [84, 54, 40]], np.float32
)
HAIR = np.array([[28, 22, 22], [62, 40, 28], [112, 72, 42], [160, 120, 70], [214, 180, 120], [150, 64, 32]], np.float32)
IRIS = np.array([[58, 36, 22], [98, 64, 34], [92, 110, 62], [72, 118, 160], [110, 124, 132]], np.float32)

# fmt: off
SHAPES = (
    "face_width", "jaw", "chin", "forehead",
    "eye_distance", "eye_width", "eye_height", "eye_tilt",
    "brow_thickness", "brow_height", "brow_angle", "brow_arch", "brow_darkness",
    "nose_length", "nose_width", "nose_depth",
    "mouth_height", "mouth_width", "upper_lip", "lower_lip",
    "ears", "hairline", "hair_volume", "hair_length",
    "fringe", "parting", "curl",
)
# fmt: on


@dataclass(frozen=True)
class Identity:
    """What makes a face this face. Shapes are in [-1, 1] unless said otherwise, colours are RGB in [0, 255]."""

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    shape: dict[str, float]
    bald: bool
    beard: str  # "", "stubble", "moustache", "goatee" or "full"
    glasses: str  # "", "round" or "square"
    marks: np.ndarray  # (N, 3): x, y and radius of moles and freckles


@dataclass(frozen=True)
class Conditions:
    """How an image was taken: everything that must not change who is in it."""

    yaw: float  # radians, to the viewer's right
    pitch: float  # radians, downwards
    age: float  # 0 young, 1 old
    smile: float  # -1 .. 1
    mouth_open: float  # 0 .. 1
    brow_raise: float  # -1 .. 1
    eye_open: float  # 0.3 .. 1.1
    gaze: np.ndarray  # (2,) in units
    light: np.ndarray  # (3,) unit vector towards the light
    ambient: float  # 0 .. 1, share of the light without direction
    tint: np.ndarray  # (3,) factors of R, G and B
    contrast: float
    grey: bool
    background: np.ndarray  # (2, 3) colours
    occlusion: str  # "", "cap", "scarf" or "hand"
    blur: float  # sigma in pixels
    noise: float  # sigma in grey levels
    misalignment: np.ndarray  # (5, 2) errors of the landmarks in pixels
    jpeg_quality: int
    texture_seed: int


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draw a person who does not exist."""
    skin = _mix(SKIN, rng.uniform(0, len(SKIN) - 1)) + rng.uniform(-8, 8, 3).astype(np.float32)
    num_marks = int(rng.choice([0, 1, 3, 25], p=[0.4, 0.3, 0.2, 0.1]))
    small = num_marks > 3  # freckles rather than moles
    marks = np.stack([
        rng.uniform(-30, 30, num_marks),
        rng.uniform(2, 26, num_marks) if small else rng.uniform(-26, 52, num_marks),
        rng.uniform(0.5, 0.9, num_marks) if small else rng.uniform(1.0, 1.9, num_marks),
    ], axis=1)  # fmt: skip
    return Identity(
        skin=skin.clip(30, 255),
        hair=_mix(HAIR, rng.uniform(0, len(HAIR) - 1)),
        iris=_mix(IRIS, rng.uniform(0, len(IRIS) - 1)),
        lips=(skin * 0.72 + np.array([62, 8, 14]) * rng.uniform(0.4, 1.4)).clip(20, 255).astype(np.float32),
        shape={name: float(rng.uniform(-1, 1)) for name in SHAPES},
        bald=bool(rng.random() < 0.1),
        beard=str(rng.choice(["", "stubble", "moustache", "goatee", "full"], p=[0.6, 0.1, 0.1, 0.1, 0.1])),
        glasses=str(rng.choice(["", "round", "square"], p=[0.7, 0.15, 0.15])),
        marks=marks,
    )


def draw_conditions(
    rng: np.random.Generator,
    yaw: tuple[float, float] = (0, 60),
    age: tuple[float, float] = (0, 1),
    difficulty: float = 1.0,
) -> Conditions:
    """Draw the conditions of one image.

    Args:
        rng: generator to draw from.
        yaw: range of the head's turn in degrees, the side is drawn too.
        age: range of the age, within 0 .. 1.
        difficulty: factor of all other nuisances, 0 .. 1.
    """
    d = difficulty
    light = np.array([rng.normal(0, 1.1 * d), rng.normal(-0.35, 0.5 * d), 1.0])
    return Conditions(
        yaw=float(np.radians(rng.uniform(*yaw)) * rng.choice([-1, 1])),
        pitch=float(np.radians(rng.normal(0, 9 * d)).clip(-0.4, 0.4)),
        age=float(rng.uniform(*age)),
        smile=float(rng.uniform(-0.6, 1) * d),
        mouth_open=float(max(0.0, rng.normal(-0.2, 0.5)) * d),
        brow_raise=float(rng.uniform(-1, 1) * d),
        eye_open=float(1.0 - max(0.0, rng.normal(0, 0.3) * d)),
        gaze=rng.uniform(-1.6, 1.6, 2) * d * [1, 0.5],
        light=light / np.linalg.norm(light),
        ambient=float(rng.uniform(0.75 - 0.5 * d, 0.8)),
        tint=np.exp(rng.normal(0, 0.11 * d, 3) + rng.uniform(-0.55, 0.4) * d).astype(np.float32),
        contrast=float(np.exp(rng.normal(0, 0.18 * d))),
        grey=bool(rng.random() < 0.08 * d),
        background=rng.uniform(0, 255, (2, 3)).astype(np.float32),
        occlusion=str(rng.choice(["cap", "scarf", "hand"])) if rng.random() < 0.15 * d else "",
        blur=float(rng.uniform(0, 1.3 * d)),
        noise=float(rng.uniform(0, 10 * d)),
        misalignment=rng.normal(0, 1.1 * d, (5, 2)) + rng.normal(0, 1.2 * d, 2),
        jpeg_quality=int(rng.uniform(95 - 45 * d, 95)),
        texture_seed=int(rng.integers(2**31)),
    )


def _mix(palette: np.ndarray, position: float) -> np.ndarray:
    """Colour at a real-valued position in a palette."""
    low = min(int(position), len(palette) - 2)
    return palette[low] + (palette[low + 1] - palette[low]) * np.float32(position - low)
