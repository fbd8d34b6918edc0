"""What light and a camera make of a drawing: shade, exposure, blur, tint, noise."""

import numpy as np

from ppfacerec.core.opencv import import_cv2
from ppfacerec.demo.face_canvas import SIZE, ZOOM
from ppfacerec.demo.face_parameters import Conditions


def lit(
    image: np.ndarray,
    now: Conditions,
    outline: np.ndarray,
    person: np.ndarray,
    strands: np.ndarray | float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Lambert's law on an ellipsoid where the head is, and hair and skin grain.

    Args:
        image: uint8 (SIZE * ZOOM, SIZE * ZOOM, 3).
        outline: polygon (N, 2) of the head, in pixels of the final picture.
        person, strands: where there is somebody, and hair: masks of the image's size, 0 .. 1.
    """
    cv2 = import_cv2()
    low, high = outline.min(0) * ZOOM, outline.max(0) * ZOOM
    centre, radius = (low + high) / 2, (high - low) * 0.56
    nx = ((np.arange(SIZE * ZOOM) - centre[0]) / radius[0]).astype(np.float32)[None, :]
    ny = ((np.arange(SIZE * ZOOM) - centre[1]) / radius[1]).astype(np.float32)[:, None]
    nz = np.sqrt(np.maximum(0.04, 1 - nx**2 - ny**2))
    lx, ly, lz = (np.float32(v) for v in now.light)
    diffuse = np.maximum(0, nx * lx + ny * ly + nz * lz)
    shade = now.ambient + (1.12 - now.ambient) * diffuse
    grain = rng.normal(0, 1, (SIZE // 4, SIZE)).astype(np.float32)  # tall grains: strands of hair
    grain = cv2.resize(grain, (SIZE * ZOOM, SIZE * ZOOM), interpolation=cv2.INTER_LINEAR)
    shade *= 1 + grain * (0.015 + 0.06 * strands)
    shade = 1 + person * (shade - 1)
    return cv2.multiply(image, cv2.merge([shade] * 3), dtype=cv2.CV_8U)


def developed(image: np.ndarray, now: Conditions, skin: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shrink to uint8 (SIZE, SIZE, 3), blur, expose for the colour `skin`, tint and add noise."""
    cv2 = import_cv2()
    image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if now.blur > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), now.blur)
    exposure = (150 / skin.mean()) ** 0.45  # cameras expose for the face
    image = ((image - 120) * now.contrast + 120) * now.tint * np.float32(exposure)
    if now.grey:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    image = image + rng.normal(0, 1, image.shape).astype(np.float32) * now.noise
    return image.clip(0, 255).astype(np.uint8)
